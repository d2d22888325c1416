"""Supervised fine-tuning: state, optimizer, update step, loop (section 3 of the paper)."""
