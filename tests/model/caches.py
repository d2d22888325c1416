"""Caches for tests of the model."""

import jax.numpy as jnp

from phi4r.model.config import ModelConfig
from phi4r.model.kv_cache import KVCache, empty_pages, open_cache


def empty_cache(config: ModelConfig, *, batch: int, capacity: int) -> KVCache:
    """Returns a cache whose sequences have nothing in pages, and room for `capacity` tokens in columns."""
    pages = empty_pages(config, num_pages=1, page_size=8)
    table, lengths = jnp.zeros((batch, 1), jnp.int32), jnp.zeros(batch, jnp.int32)
    return open_cache(pages, table, lengths, columns=capacity, longest=capacity)
