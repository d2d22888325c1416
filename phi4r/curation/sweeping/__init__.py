"""Sweeps: small runs over a grid of mixtures or settings, to test the additive property (Figure 5 of the paper)."""
