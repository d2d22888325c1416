"""Meshes and the one table that says which logical axis lies on which mesh axis.

A config speaks of four axes: `data` (plain replicas), `fsdp` (replicas that share one copy of the parameters),
`context` (parts of a row) and `tensor` (parts of a layer). The mesh has five: `tensor` is cut into `kv`, which divides
the KV heads, and `group`, over which each KV head is repeated and its query heads are divided. So 10 KV heads go over
4 or 8 devices too. Parameters and activations name their axes in words (`embed`, `kv_heads`, ...); `LOGICAL_RULES`
maps words to mesh axes.

Where `context` is more than 1, every [B T] array on the mesh has its columns in zigzag order (`zigzag_order`): of 2C
equal parts of a row, device i of C holds parts i and 2C - 1 - i, so that causal attention is as much work on each.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from phi4r.errors import UserError

MESH_AXES = ("data", "fsdp", "context", "kv", "group")
TENSOR = ("kv", "group")

LOGICAL_RULES = (
    # Parameters: one dimension over the replicas that share them, one over the parts of a layer.
    ("embed", ("fsdp", "context")),
    ("vocab", TENSOR),
    ("kv_heads", "kv"),
    ("queries", "group"),
    ("mlp", TENSOR),
    ("head_dim", None),
    ("layers", None),
    # Activations.
    ("batch", ("data", "fsdp")),
    ("length", "context"),
    ("act_embed", None),
)


@dataclasses.dataclass(frozen=True)
class MeshSettings:
    """How many devices each mesh axis has; one of them may be -1, for all that remain."""

    data: int = 1
    fsdp: int = -1
    context: int = 1
    tensor: int = 1


def make_mesh(
    settings: MeshSettings | None = None,
    devices: Sequence[jax.Device] | None = None,
    *,
    heads: tuple[int, int] | None = None,
) -> Mesh:
    """Builds the mesh over `devices` (default: all).

    Args:
      settings: sizes of the axes.
      devices: what the mesh is made of, of any host.
      heads: (K, Q), KV heads and query heads of each (`ModelConfig.heads`): what `tensor` has to divide. None where
        no attention runs on the mesh.

    Raises:
      UserError: if the sizes do not multiply to the number of devices, or `tensor` does not divide the heads.
    """
    devices = jax.devices() if devices is None else devices
    sizes = dataclasses.asdict(settings or MeshSettings())
    text = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    free = [axis for axis, size in sizes.items() if size == -1]
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise UserError(f"mesh {text}: sizes are positive, and at most one may be -1 (all that remain).")
    if free and len(devices) % fixed == 0:
        sizes[free[0]] = len(devices) // fixed
    elif free or fixed != len(devices):
        raise UserError(f"mesh {text} does not fit {len(devices)} devices: the sizes must multiply to that number.")
    tensor = sizes.pop("tensor")
    kv, group = (tensor, 1) if heads is None else _divide_heads(tensor, *heads)
    # A TPU's torus may have to be cut along one of its own axes: the neighbours of an axis are then not all adjacent.
    grid = mesh_utils.create_device_mesh((*sizes.values(), kv, group), devices, allow_split_physical_axes=True)
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def _divide_heads(tensor: int, num_kv_heads: int, queries: int) -> tuple[int, int]:
    """Returns (kv, group): kv = gcd(tensor, K) divides the KV heads, the rest the Q query heads of each."""
    kv = math.gcd(tensor, num_kv_heads)
    if queries % (tensor // kv):
        fitting = [n for n in range(1, num_kv_heads * queries + 1) if queries % (n // math.gcd(n, num_kv_heads)) == 0]
        raise UserError(
            f"mesh tensor={tensor} does not divide {num_kv_heads * queries} query heads on {num_kv_heads} KV heads; "
            f"take one of {', '.join(map(str, fitting))}."
        )
    return kv, tensor // kv


def fitted_spec(mesh: Any, names: Sequence[str | None], shape: Sequence[int]) -> PartitionSpec:
    """Returns over which axes of the mesh each dimension is divided.

    Args:
      mesh: concrete or abstract.
      names: the logical axis of each dimension, or None for whole.
      shape: sizes; a mesh axis that does not divide its dimension is left out, and the dimension repeated over it.
    """
    table = dict(LOGICAL_RULES)

    def fit(name: str | None, size: int) -> tuple[str, ...] | str | None:
        axes = table[name] if name is not None else None
        chosen: tuple[str, ...] = ()
        for axis in (axes,) if isinstance(axes, str) else axes or ():
            divided = size // math.prod(mesh.shape[a] for a in chosen)
            if mesh.shape[axis] > 1 and divided % mesh.shape[axis] == 0:
                chosen += (axis,)
        return chosen[0] if len(chosen) == 1 else chosen or None

    return PartitionSpec(*(fit(name, size) for name, size in zip(names, shape, strict=True)))


def decoding_mesh(mesh: Mesh, *, tensor: int | None = None, heads: tuple[int, int]) -> Mesh:
    """Returns the mesh of a sampler on the devices of `mesh`: rows over all that do not share a layer.

    Args:
      mesh: of training.
      tensor: devices that share a layer; None for as many as on `mesh`.
      heads: (K, Q), as for `make_mesh`.

    Raises:
      UserError: if `tensor` does not divide the devices or the heads.
    """
    kv, group = (mesh.shape["kv"], mesh.shape["group"]) if tensor is None else _divide_heads(tensor, *heads)
    if mesh.size % (kv * group):
        raise UserError(f"sampler.tensor={tensor} does not divide the {mesh.size} devices of the mesh.")
    return Mesh(mesh.devices.reshape(1, -1, 1, kv, group), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES))


def param_shardings(mesh: Mesh, axes: Any, shapes: Any) -> Any:
    """Returns the NamedSharding of every parameter.

    Args:
      mesh: from `make_mesh`.
      axes: tree of tuples of logical axis names (`phi4r.model.transformer.param_axes`).
      shapes: tree of the same structure whose leaves have a `.shape`.
    """
    return jax.tree.map(
        lambda names, leaf: NamedSharding(mesh, fitted_spec(mesh, names, leaf.shape)),
        axes,
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays whose first axis is the batch: rows over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def token_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of [B T] arrays: rows over `data` and `fsdp`, their columns over `context`."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp"), "context"))


def put_whole(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Puts an array that every host has whole on the devices of `sharding`; each host moves the parts of its own."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def batch_shards(mesh: Mesh) -> int:
    """Returns over how many devices the rows of a batch are spread; a batch must be a multiple of it."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def zigzag_order(length: int, shards: int) -> np.ndarray:
    """Returns for every column on the mesh its place in the row; [length], the identity for one shard.

    Args:
      length: T, a multiple of 2 * shards.
      shards: C, the size of `context`.
    """
    parts = np.arange(length).reshape(2 * shards, -1) if shards > 1 else np.arange(length)[None]
    order = [part for i in range(shards) for part in (i, 2 * shards - 1 - i)] if shards > 1 else [0]
    return parts[order].reshape(-1)


def context_shards() -> int:
    """Returns the size of `context` of the mesh in use (`jax.set_mesh`), 1 without one."""
    return jax.sharding.get_abstract_mesh().shape.get("context", 1)


def device_in_use() -> Any:
    """Returns what programs are compiled for, with `platform` and `device_kind`.

    That is the kind of device of the mesh in use, which may have no device here (`phi4r plan`), else the default one.
    """
    return jax.sharding.get_abstract_mesh().abstract_device or jax.devices()[0]


def constrain(x: Any, *axes: str | None) -> Any:
    """Tells the compiler how the activation `x` is laid out; does nothing outside `jax.set_mesh`."""
    mesh = jax.sharding.get_abstract_mesh()
    return x if mesh.empty else jax.lax.with_sharding_constraint(x, fitted_spec(mesh, axes, x.shape))
