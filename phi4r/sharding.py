"""Meshes and the one table that says which logical axis lies on which mesh axis.

The mesh has four axes: `data` (plain replicas), `fsdp` (replicas that share one copy of the parameters), `context`
(parts of a row) and `tensor` (parts of a layer). Parameters and activations name their axes in words (`embed`,
`heads`, ...); `LOGICAL_RULES` maps words to mesh axes, and nothing else in the code base mentions a mesh axis.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from phi4r.errors import UserError

MESH_AXES = ("data", "fsdp", "context", "tensor")

LOGICAL_RULES = (
    # Parameters: one dimension over the replicas that share them, one over the parts of a layer.
    ("embed", "fsdp"),
    ("vocab", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("mlp", "tensor"),
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


def make_mesh(settings: MeshSettings | None = None, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh over `devices` (default: all).

    Raises:
      UserError: if the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = dataclasses.asdict(settings or MeshSettings())
    text = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    free = [axis for axis, size in sizes.items() if size == -1]
    fixed = int(np.prod([size for size in sizes.values() if size != -1]))
    if len(free) > 1 or any(size < 1 and size != -1 for size in sizes.values()):
        raise UserError(f"mesh {text}: sizes are positive, and at most one may be -1 (all that remain).")
    if free and len(devices) % fixed == 0:
        sizes[free[0]] = len(devices) // fixed
    elif free or fixed != len(devices):
        raise UserError(f"mesh {text} does not fit {len(devices)} devices: the sizes must multiply to that number.")
    return jax.make_mesh(
        tuple(sizes.values()), MESH_AXES, axis_types=(AxisType.Auto,) * len(MESH_AXES), devices=devices
    )


def param_shardings(mesh: Mesh, axes: Any, shapes: Any) -> Any:
    """Returns the NamedSharding of every parameter.

    Args:
      mesh: from `make_mesh`.
      axes: tree of tuples of logical axis names (`phi4r.model.transformer.param_axes`).
      shapes: tree of the same structure whose leaves have a `.shape`.

    A dimension that its mesh axis does not divide (10 KV heads over 4) is kept whole on every device.
    """

    def one(names: tuple[str, ...], leaf: Any) -> NamedSharding:
        spec = nn.logical_to_mesh_axes(names, LOGICAL_RULES)
        fitted = [
            axis if axis is not None and size % mesh.shape[axis] == 0 else None
            for axis, size in zip(spec, leaf.shape, strict=True)
        ]
        return NamedSharding(mesh, PartitionSpec(*fitted))

    return jax.tree.map(one, axes, shapes, is_leaf=lambda x: isinstance(x, tuple))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays whose first axis is the batch: rows over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def batch_shards(mesh: Mesh) -> int:
    """Returns over how many devices the rows of a batch are spread; a batch must be a multiple of it."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def constrain(x: Any, *axes: str | None) -> Any:
    """Tells the compiler how the activation `x` is laid out; does nothing outside `jax.set_mesh`."""
    return nn.with_logical_constraint(x, axes, rules=LOGICAL_RULES)
