"""Planning: compiles every program of an experiment for machines that are not there, and says whether it fits."""
