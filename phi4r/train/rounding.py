"""Parameters in bfloat16 that still learn: stochastic rounding or Kahan summation around any optimizer.

bfloat16 keeps 8 bits of a number, so an update of less than 1/512 of a weight is lost when the sum is rounded to the
nearest: at a learning rate of 1e-5 nearly all are. Two ways out, in both of which the optimizer itself, its moments
included, works in float32:

* stochastic: the sum is rounded up with the probability of the part that is cut off: right on average, no memory.
* kahan: what rounding lost is kept in bfloat16 beside each parameter and added to its next update: 2 bytes more.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from phi4r.errors import UserError
from phi4r.typing import Array, Params

Rounding = Literal["nearest", "stochastic", "kahan"]

_CUT_BITS = 16  # float32 bits that bfloat16 does not have


class RoundedState(NamedTuple):
    """State of an optimizer whose updates are rounded."""

    inner: optax.OptState
    count: Array  # [] int32: updates done; the random keys are `fold_in(key(0), count)`
    lost: Params | None  # of each parameter, the part of past updates that it does not hold yet; for Kahan


def round_updates(optimizer: optax.GradientTransformation, rounding: Rounding) -> optax.GradientTransformation:
    """Returns the optimizer for bfloat16 parameters, with updates that `optax.apply_updates` adds without a loss.

    An update is the difference, in float32, of two bfloat16 numbers: the parameter as it is and as it is to be.

    Args:
      optimizer: that gets gradients and parameters in float32.
      rounding: "stochastic" or "kahan".

    Raises:
      UserError: on `init` with parameters that are not in bfloat16.
    """

    def init(params: Params) -> RoundedState:
        wrong = {str(leaf.dtype) for leaf in jax.tree.leaves(params)} - {"bfloat16"}
        if wrong:
            raise UserError(
                f"optimizer.rounding={rounding} is for trained parameters in bfloat16, these are {wrong.pop()}; "
                "set model.param_dtype=bfloat16, or rounding=nearest."
            )
        lost = jax.tree.map(jnp.zeros_like, params) if rounding == "kahan" else None
        return RoundedState(optimizer.init(_float32(params)), jnp.zeros((), jnp.int32), lost)

    def update(grads: Params, state: RoundedState, params: Params) -> tuple[Params, RoundedState]:
        wide = _float32(params)
        updates, inner = optimizer.update(grads, state.inner, wide)
        if rounding == "kahan":
            updates = jax.tree.map(lambda u, lost: u + lost.astype(jnp.float32), updates, state.lost)
        wanted = jax.tree.map(jnp.add, wide, updates)
        if rounding == "stochastic":
            held = _round_tree(wanted, jax.random.fold_in(jax.random.key(0), state.count))
        else:
            held = jax.tree.map(lambda x: x.astype(jnp.bfloat16), wanted)
        moved = jax.tree.map(lambda new, old: new.astype(jnp.float32) - old, held, wide)
        lost = state.lost
        if rounding == "kahan":
            lost = jax.tree.map(lambda u, m: (u - m).astype(jnp.bfloat16), updates, moved)
        return moved, RoundedState(inner, state.count + 1, lost)

    return optax.GradientTransformation(init, update)


def round_stochastically(x: Array, key: Array) -> Array:
    """Returns float32 `x` as bfloat16: the neighbour above or below, more likely the nearer one; x on average.

    The 16 bits that are cut off are added to 16 random ones: the carry is 1 with the probability of their share.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    rounded = jax.lax.bitcast_convert_type((bits + noise) >> _CUT_BITS << _CUT_BITS, jnp.float32)
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


def _round_tree(tree: Params, key: Array) -> Params:
    """Rounds every leaf with a key of its own."""
    leaves, structure = jax.tree.flatten(tree)
    keys = [jax.random.fold_in(key, number) for number in range(len(leaves))]
    return jax.tree.unflatten(structure, [round_stochastically(x, k) for x, k in zip(leaves, keys, strict=True)])


def _float32(tree: Any) -> Any:
    """Returns a tree with all leaves in float32."""
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)
