"""The explicit key/value cache: a pytree that goes into a step and comes out of it."""

import flax.struct
import jax.numpy as jnp

from phi4r.model.config import ModelConfig
from phi4r.sharding import constrain
from phi4r.typing import Array


@flax.struct.dataclass
class KVCache:
    """Keys and values of up to S tokens of every row, with the segment and position of each slot.

    All rows write the same slots: the next T tokens go to `index`..`index + T - 1`. Rows of unequal length are padded
    on the left with segment 0, which no query sees.
    """

    keys: tuple[Array, ...]  # L arrays [B K S H], rotated
    values: tuple[Array, ...]  # L arrays [B K S H]
    segment_ids: Array  # [B S] int32, 0 where empty
    positions: Array  # [B S] int32
    index: Array  # [] int32

    @property
    def capacity(self) -> int:
        """S, the most tokens that a row can hold."""
        return self.segment_ids.shape[1]


def empty_cache(config: ModelConfig, *, batch: int, capacity: int) -> KVCache:
    """Returns a cache without tokens; one array a layer, so that a step writes each in place.

    The slots of a head lie together, as attention reads them: no step copies the cache into another order.
    """
    shape = (batch, config.num_kv_heads, capacity, config.head_dim)

    def empty() -> tuple[Array, ...]:
        zeros = (jnp.zeros(shape, config.dtype) for _ in range(config.num_layers))
        return tuple(constrain(x, "batch", "kv_heads", None, "head_dim") for x in zeros)

    return KVCache(
        keys=empty(),
        values=empty(),
        segment_ids=jnp.zeros((batch, capacity), jnp.int32),
        positions=jnp.zeros((batch, capacity), jnp.int32),
        index=jnp.zeros((), jnp.int32),
    )
