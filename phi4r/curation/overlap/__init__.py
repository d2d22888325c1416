"""Decontamination: n-grams that texts share with benchmarks, or held-out items (Algorithm 1 of the Phi-4 report)."""
