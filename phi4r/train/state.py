"""What training carries from step to step, and how it comes to lie on the mesh.

Shapes come from `eval_shape`, shardings from shapes, arrays from a jitted init: nothing is ever made whole on one
device. The moments of the optimizer lie exactly as their parameters do.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from phi4r.typing import Array, Params


@flax.struct.dataclass
class TrainState:
    """Step, parameters and optimizer; random keys are `fold_in(key(seed), step)` and need no place here."""

    step: Array  # [] int32: updates done
    params: Params
    opt_state: optax.OptState


def abstract_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state as ShapeDtypeStructs with shardings: what a checkpoint is restored into.

    Args:
      params: tree of arrays or ShapeDtypeStructs, with shardings.
      optimizer: whose state is wanted. Leaves that mirror a parameter are laid out like it, all others replicated.
    """
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params)
    whole = _replicated_like(jax.tree.leaves(params)[0].sharding)

    def counter(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole)

    opt_state = optax.tree.map_params(
        optimizer,
        lambda moment, param: jax.ShapeDtypeStruct(moment.shape, moment.dtype, sharding=param.sharding),
        jax.eval_shape(optimizer.init, params),
        params,
        transform_non_params=counter,
    )
    return TrainState(step=counter(jax.ShapeDtypeStruct((), jnp.int32)), params=params, opt_state=opt_state)


def create_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state at step 0 around `params`, whose buffers it takes over (do not use them afterwards)."""

    def init(params: Params) -> TrainState:
        return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))

    shardings = state_shardings(abstract_state(params, optimizer))
    return jax.jit(init, donate_argnums=0, out_shardings=shardings)(params)


def state_shardings(state: TrainState) -> TrainState:
    """Returns the tree of shardings of a state, abstract or not."""
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def _replicated_like(sharding: Sharding | None) -> Sharding | None:
    """Returns the sharding of a scalar that lives on the same devices as an array with `sharding`."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return sharding
