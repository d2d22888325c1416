"""Measurements against other software: each module is a command, `python -m benchmarks.<name>`."""
