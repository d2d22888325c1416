"""Clusters, their weights, and the data sets that training reads, with their card."""
