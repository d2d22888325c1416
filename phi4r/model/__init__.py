"""The decoder: its shape, its layers, its cache, and the log-probabilities it gives."""
