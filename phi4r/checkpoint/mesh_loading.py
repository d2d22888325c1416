"""Loads parameters straight into the shards of a mesh, a few layers at a time.

A host reads only what its devices hold, as it lies in the files: rows of tensors, in their order. Devices transpose and
write the layers into the stacked leaf, so that a host never holds one (7.3 GB for phi-4), and the arrays are the
runtime's own, which an update may donate.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from phi4r.checkpoint.hf_layout import Leaf
from phi4r.checkpoint.pieces import PIECE_BYTES
from phi4r.checkpoint.read_ahead import read_ahead
from phi4r.metrics.progress import Progress


class PartSource(Protocol):
    """Where parameters come from: `SafetensorsFolder` or `ParamsFolder`."""

    def read_part(self, leaf: Leaf, layer: int, index: tuple[slice, ...]) -> np.ndarray:
        """Returns the slice `index` of one layer, in the axes of `leaf.axes_shape`."""

    def forget_pages(self) -> None:
        """Gives back memory that was only mapped."""


def load_on_mesh(
    source: PartSource, leaves: Sequence[Leaf], shardings: Mapping[str, Sharding], dtype: np.dtype
) -> dict[str, jax.Array]:
    """Reads every leaf; all hosts of the mesh call this together.

    Args:
      source: to read from.
      leaves: what to read.
      shardings: of every leaf, by path.
      dtype: of the arrays.

    Returns:
      The leaves by path.
    """
    jobs = [(leaf, first, count) for leaf in leaves for first, count in _groups(leaf, dtype)]
    params: dict[str, jax.Array] = {}
    with Progress("load", total=len(jobs)) as progress, ThreadPoolExecutor(1) as reader:
        parts = read_ahead(reader, lambda job: _read_group(source, *job, shardings[job[0].path], dtype), jobs, ahead=1)
        for number, ((leaf, first, count), part) in enumerate(parts, start=1):
            if count == len(leaf.names):
                params[leaf.path] = _place(part, leaf, shardings[leaf.path])
            else:
                if first == 0:
                    params[leaf.path] = jnp.zeros(leaf.shape, dtype, device=shardings[leaf.path])
                params[leaf.path] = _insert(params[leaf.path], part, first, leaf)
            params[leaf.path].block_until_ready()  # else host memory would hold all parts under way
            part.delete()
            source.forget_pages()
            progress.update(number)
    return params


def _groups(leaf: Leaf, dtype: np.dtype) -> list[tuple[int, int]]:
    """Returns (first layer, number of layers) of the parts to read at a time: as many as make a piece on each host."""
    layers = len(leaf.names)
    layer_bytes = int(np.prod(leaf.axes_shape)) * np.dtype(dtype).itemsize // jax.process_count()
    count = min(layers, max(1, PIECE_BYTES // max(layer_bytes, 1)))
    return [(first, min(count, layers - first)) for first in range(0, layers, count)]


def _read_group(
    source: PartSource, leaf: Leaf, first: int, count: int, sharding: Sharding, dtype: np.dtype
) -> jax.Array:
    """Returns layers [count, *axes_shape] on the devices; what several devices hold is read once."""

    @functools.cache
    def read(index: tuple[tuple[int, int], ...]) -> np.ndarray:
        (start, stop), *rest = index
        slices = tuple(slice(*bounds) for bounds in rest)
        out = np.empty((stop - start, *(high - low for low, high in rest)), dtype)
        for layer in range(start, stop):
            out[layer - start] = source.read_part(leaf, first + layer, slices)
        return out

    shape = (count, *leaf.axes_shape)

    def callback(index: tuple[slice, ...]) -> np.ndarray:
        return read(tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True)))

    return jax.make_array_from_callback(shape, _tensor_sharding(leaf, sharding), callback, dtype=dtype)


def _tensor_sharding(leaf: Leaf, sharding: Sharding) -> Sharding:
    """Returns the sharding of [layers, *axes_shape] under which every device holds its own part of the leaf."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    spec = (*sharding.spec, *(None,) * (len(leaf.shape) - len(sharding.spec)))
    own = spec[1:] if leaf.stacked else spec
    return NamedSharding(sharding.mesh, PartitionSpec(None, *(own[axis] for axis in leaf.inverse_order)))


def _place(part: jax.Array, leaf: Leaf, sharding: Sharding) -> jax.Array:
    """Returns a whole leaf from all of its layers."""
    return _jitted_place(sharding)(part, leaf.shape, _order(leaf))


def _insert(stack: jax.Array, part: jax.Array, first: int, leaf: Leaf) -> jax.Array:
    """Returns the leaf with layers from `first` on replaced, in the same memory."""
    return _jitted_insert(stack.sharding)(stack, part, first, _order(leaf))


def _order(leaf: Leaf) -> tuple[int, ...]:
    """Returns the permutation from [layers, *axes_shape] to [layers, *axes of the leaf]."""
    return (0, *(1 + axis for axis in leaf.order))


@functools.cache
def _jitted_place(sharding: Sharding) -> Callable[..., jax.Array]:
    def place(part: jax.Array, shape: tuple[int, ...], order: tuple[int, ...]) -> jax.Array:
        return jnp.copy(part.transpose(order).reshape(shape))  # a copy, as the buffer of `part` may be borrowed

    return jax.jit(place, static_argnums=(1, 2), out_shardings=sharding)


@functools.cache
def _jitted_insert(sharding: Sharding) -> Callable[..., jax.Array]:
    def insert(stack: jax.Array, part: jax.Array, first: jax.Array, order: tuple[int, ...]) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(stack, part.transpose(order), first, axis=0)

    return jax.jit(insert, static_argnums=3, donate_argnums=0, out_shardings=sharding)
