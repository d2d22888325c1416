"""Causal attention with grouped queries: one mask rule, several backends behind one function."""

from phi4r.model.attention.attend import attend
from phi4r.model.attention.mask import Tokens, visible
from phi4r.model.attention.paged import attend_paged

__all__ = ["Tokens", "attend", "attend_paged", "visible"]
