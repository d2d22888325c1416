"""Weights cut into pieces of about 16 MiB, the unit in which they are read, hashed and written.

A piece is a run of rows of one Hugging Face tensor, and one file of a params checkpoint. So neither direction of a
conversion holds a stacked leaf (7.3 GB for phi-4), nor even a whole tensor.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from phi4r.checkpoint.hf_layout import Leaf, tensor_shapes
from phi4r.checkpoint.shards import TensorSpec

PIECE_BYTES = 16 * 2**20  # small enough for the allocator to use the same memory again


@dataclasses.dataclass(frozen=True)
class Piece:
    """Part of one layer of a leaf.

    Attributes:
      leaf: which leaf.
      layer: which layer; 0 for leaves outside the layers.
      start: where the piece begins along the first of `leaf.axes_shape`.
      stop: where it ends.
    """

    leaf: Leaf
    layer: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The tensor."""
        return self.leaf.names[self.layer]

    @property
    def axes_shape(self) -> tuple[int, ...]:
        """Shape with heads as an axis of their own, in the order of the tensor."""
        return (self.stop - self.start, *self.leaf.axes_shape[1:])

    @property
    def matrix_shape(self) -> tuple[int, ...]:
        """Shape as rows of the tensor."""
        return (self._rows(self.stop) - self._rows(self.start), *self.leaf.matrix_shape[1:])

    @property
    def num_elements(self) -> int:
        """How many values it holds."""
        return math.prod(self.axes_shape)

    @property
    def first_row(self) -> int:
        """Where the piece begins in the tensor."""
        return self.leaf.first_row + self._rows(self.start)

    def _rows(self, position: int) -> int:
        return position * (self.leaf.matrix_shape[0] // self.leaf.axes_shape[0])


def piece_length(leaf: Leaf, dtype: np.dtype) -> int:
    """Returns how much of the first of `leaf.axes_shape` a piece takes: equal pieces where that costs few more."""
    size = leaf.axes_shape[0]
    fewest = min(size, math.ceil(TensorSpec(leaf.axes_shape, dtype).num_bytes / PIECE_BYTES))
    equal = next((count for count in range(fewest, min(2 * fewest, size) + 1) if size % count == 0), fewest)
    return math.ceil(size / equal)


def tensor_pieces(leaves: Sequence[Leaf], dtypes: Mapping[str, np.dtype]) -> dict[str, tuple[Piece, ...]]:
    """Returns the pieces of every tensor, in the order of its rows.

    Args:
      leaves: from `hf_layout.hf_leaves`.
      dtypes: of every leaf, by path.
    """
    pieces: dict[str, tuple[Piece, ...]] = {}
    for leaf in leaves:
        size, length = leaf.axes_shape[0], piece_length(leaf, dtypes[leaf.path])
        for layer, name in enumerate(leaf.names):
            cuts = (Piece(leaf, layer, start, min(start + length, size)) for start in range(0, size, length))
            pieces[name] = (*pieces.get(name, ()), *cuts)
    return pieces


def tensor_specs(leaves: tuple[Leaf, ...], dtypes: Mapping[str, np.dtype]) -> dict[str, TensorSpec]:
    """Returns shape and dtype of every tensor, in the order of a Hugging Face state dict; arguments as above."""
    dtype_of = {name: dtypes[leaf.path] for leaf in leaves for name in leaf.names}
    return {name: TensorSpec(shape, dtype_of[name]) for name, shape in tensor_shapes(leaves).items()}
