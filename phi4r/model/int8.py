"""Matrices of decoding in int8, with a float scale for each output; keys and values of its cache likewise.

A decode step reads every weight for a few tokens, so on an accelerator it takes as long as the reading, and a byte a
weight halves what two bytes take. The scale of an output is the largest magnitude among its weights / 127 (symmetric,
per channel); it multiplies the product and not the matrix, so what stands between memory and the product is a change of
type, which compilers for accelerators fuse into it.

A policy in int8 is not quite the one that is trained: `benchmarks/int8_error.py` measures by how much. The blocks of 64
in which a frozen base is held for training (`phi4r.model.quantized`) are finer and need a matrix of numbers for the
product; here every weight is read in every step.

To a cache (`phi4r.model.kv_cache`) the tokens of a head are what outputs are to a matrix: each has a scale of its own,
which multiplies its score, or the weight of its value.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.struct
import jax.numpy as jnp

from phi4r.sharding import constrain
from phi4r.typing import Array

DecodeWeights = Literal["float", "int8"]
DecodeCache = Literal["float", "int8"]

LARGEST = 127


@flax.struct.dataclass
class Int8Matrix:
    """A matrix with any number of output and input axes; the inputs are those that its product sums over."""

    values: Array  # [outputs inputs] int8, from -127 to 127
    scale: Array  # [outputs] float32: weight = values * scale


def numbers_of(matrix: Array | Int8Matrix) -> Array:
    """Returns the numbers of a matrix, without the scales that it may have."""
    return matrix.values if isinstance(matrix, Int8Matrix) else matrix


def quantize(matrix: Array, inputs: Sequence[int]) -> Int8Matrix:
    """Returns the matrix in int8.

    Args:
      matrix: [outputs inputs], axes in any order.
      inputs: which axes its product sums over.
    """
    matrix = matrix.astype(jnp.float32)
    largest = jnp.max(jnp.abs(matrix), axis=tuple(inputs), keepdims=True)
    scale = jnp.where(largest > 0, largest, 1.0) / LARGEST
    values = jnp.round(matrix / scale).astype(jnp.int8)
    return Int8Matrix(values, jnp.squeeze(scale, axis=tuple(inputs)))


def look_up(embedding: Array | Int8Matrix, tokens: Array, dtype: Any) -> Array:
    """Returns the rows [B T D] of an embedding [V D] in `dtype`."""
    # Columns that lie over the replicas come together first: a look-up cannot trade them for divided rows.
    if not isinstance(embedding, Int8Matrix):
        return jnp.take(constrain(embedding, "vocab", "act_embed"), tokens, axis=0).astype(dtype)
    values = jnp.take(constrain(embedding.values, "vocab", "act_embed"), tokens, axis=0)
    scale = jnp.take(constrain(embedding.scale, "vocab"), tokens, axis=0)
    return (values.astype(jnp.float32) * scale[..., None]).astype(dtype)
