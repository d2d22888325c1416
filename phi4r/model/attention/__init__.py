"""Causal attention with grouped queries: one mask rule, several backends behind one function."""

from phi4r.model.attention.attend import attend
from phi4r.model.attention.mask import Tokens, visible

__all__ = ["Tokens", "attend", "visible"]
