"""Arrays that a jitted update may donate."""

from typing import Any

import jax
import jax.numpy as jnp


def owned_copy(tree: Any) -> Any:
    """Copies restored arrays into buffers of the runtime's own, deleting each original as soon as it is copied.

    Buffers made from host memory (by a checkpoint reader or a callback) may be borrowed, and a borrowed buffer cannot
    be donated: the first update after a resume would then need room for a second state. Leaf by leaf, the peak is one
    state and one leaf.
    """

    def copy(leaf: jax.Array) -> jax.Array:
        owned = jax.jit(jnp.copy, out_shardings=leaf.sharding)(leaf)
        owned.block_until_ready()
        leaf.delete()
        return owned

    return jax.tree.map(copy, tree)
