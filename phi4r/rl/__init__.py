"""Reinforcement learning: reward, GRPO, rollouts, loop (section 4 of the paper)."""
