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

HOST = "pinned_host"  # the name that JAX has for memory of the host that devices copy from


@flax.struct.dataclass
class TrainState:
    """Step, parameters and optimizer; random keys are `fold_in(key(seed), step)` and need no place here."""

    step: Array  # [] int32: updates done; a skipped step is none, so the position in the data may be ahead of it
    params: Params
    opt_state: optax.OptState


def abstract_state(params: Any, optimizer: optax.GradientTransformation, *, offload: bool = False) -> TrainState:
    """Returns the state as ShapeDtypeStructs with shardings: what a checkpoint is restored into.

    Args:
      params: tree of arrays or ShapeDtypeStructs, with shardings.
      optimizer: whose state is wanted. Leaves that mirror a parameter are laid out like it, all others replicated.
      offload: whether those that mirror a parameter lie in the memory of the host.
    """
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), params)
    whole = _replicated_like(jax.tree.leaves(params)[0].sharding)

    def counter(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole)

    opt_state = optax.tree.map_params(
        optimizer,
        lambda moment, param: jax.ShapeDtypeStruct(
            moment.shape, moment.dtype, sharding=param.sharding.with_memory_kind(HOST) if offload else param.sharding
        ),
        jax.eval_shape(optimizer.init, params),
        params,
        transform_non_params=counter,
    )
    return TrainState(step=counter(jax.ShapeDtypeStruct((), jnp.int32)), params=params, opt_state=opt_state)


def create_state(params: Params, optimizer: optax.GradientTransformation, *, offload: bool = False) -> TrainState:
    """Returns the state at step 0 around `params`, whose buffers it takes over (do not use them afterwards).

    See `abstract_state` for the arguments.
    """

    def init(params: Params) -> TrainState:
        return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))

    shardings = state_shardings(abstract_state(params, optimizer, offload=offload))
    return jax.jit(init, donate_argnums=0, out_shardings=shardings)(params)


def moved_to_device(tree: Any, shardings: Any) -> Any:
    """Returns a traced tree with what lies in the memory of the host moved to the devices, leaf by leaf.

    Args:
      tree: part of a state.
      shardings: of its leaves.
    """

    def move(leaf: Array, sharding: Sharding | None) -> Array:
        if sharding is None or sharding.memory_kind != HOST:
            return leaf
        return jax.device_put(leaf, sharding.with_memory_kind("device"))

    return jax.tree.map(move, tree, shardings)


def state_shardings(state: TrainState) -> TrainState:
    """Returns the tree of shardings of a state, abstract or not."""
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def _replicated_like(sharding: Sharding | None) -> Sharding | None:
    """Returns the sharding of a scalar that lives on the same devices as an array with `sharding`."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return sharding
