"""Tasks that are generated from a seed, at any size: for evaluation, and as environments of reinforcement learning."""
