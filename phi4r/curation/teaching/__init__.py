"""What models are asked for: teachability, rubrics, rewritings, traces, safety (sections 2.1 and 2.2 of the paper)."""
