"""Benchmarks that others wrote: how their rows are read, asked and judged, one file a family."""
