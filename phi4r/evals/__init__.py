"""Tasks, their evaluation, and the statistics and pages that report it."""
