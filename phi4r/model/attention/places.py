"""Which part of a row this device has."""

import jax
import jax.numpy as jnp

from phi4r.typing import Array


def query_places(length: int, context_shards: int) -> Array:
    """Returns the places in the row of the queries of this device; [runs, T / runs] int32, each run contiguous.

    Args:
      length: T, queries on this device.
      context_shards: C. With more than one the device has parts i and 2C - 1 - i of the 2C parts of a row
        (`phi4r.sharding.zigzag_order`), i being its place on the mesh axis `context`.
    """
    if context_shards == 1:
        return jnp.arange(length)[None]
    index, run = jax.lax.axis_index("context"), length // 2
    starts = jnp.stack([index, 2 * context_shards - 1 - index]) * run
    return starts[:, None] + jnp.arange(run)[None]
