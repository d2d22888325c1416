"""The whole recipe in small: a Phi-4-shaped model that learns to think, then improves by GRPO, on a laptop."""
