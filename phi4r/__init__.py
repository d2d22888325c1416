"""phi4r: from Phi-4 to Phi-4-reasoning and Phi-4-reasoning-plus, in JAX and in the open."""

__version__ = "0.1.0"
