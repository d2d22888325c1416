"""The page of `phi4r view`: a run's curves and rollouts as one HTML file that opens offline."""
