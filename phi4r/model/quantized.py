"""A frozen base in 8 or 4 bits (QLoRA, arXiv 2305.14314): what is stored, and when it becomes numbers again.

Blocks of up to 64 weights along the axis that a product sums over share a scale, the largest magnitude of the block.
"int8" stores steps of it, "nf4" one of 16 levels, spaced as quantiles of a normal distribution. Arithmetic and storage
are those of `qwix`: a leaf is a QArray, the values in int8 or packed uint4 and the scales in float32. Its model
rewriting is not used: it cannot follow linen's frozen modules and custom gradients, nor share an A between matrices.

A matrix becomes numbers inside the body of the scan (`dense`), so in training one layer of them exists at a time.
Decoding reads a copy in the dtype of activations, made for each rollout (`phi4r.model.layouts`): 2 bytes a weight and
step, not 1 or 0.6, for products at full speed and the very numbers that training sees.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from phi4r.errors import UserError
from phi4r.model.lora import GROUPS
from phi4r.typing import Array, Params

Quantization = Literal["none", "int8", "nf4"]

BLOCK = 64


def dense(leaf: Any, dtype: Any) -> Array:
    """Returns a matrix in `dtype`, whether it is stored as an array or quantized."""
    if isinstance(leaf, jax.Array):
        return leaf.astype(dtype)
    if leaf.qtype != "nf4":
        return _qwix().dequantize(leaf).astype(dtype)
    # qwix looks the levels of a matrix up as one flat row, for which a mesh gathers it; here each part stays its own.
    codes = dataclasses.replace(leaf, qvalue=jnp.arange(16, dtype=jnp.uint4), scale=jnp.ones(1))
    levels = jnp.take(_qwix().dequantize(codes), leaf.qvalue.astype(jnp.int32), axis=0)
    blocks = [(count, size // count) for size, count in zip(levels.shape, leaf.scale.shape, strict=True)]
    scales = leaf.scale.reshape([part for count, _ in blocks for part in (count, 1)])
    return (levels.reshape([part for pair in blocks for part in pair]) * scales).reshape(levels.shape).astype(dtype)


def quantize_base(params: Params, kind: Quantization) -> Params:
    """Returns the parameters with all matrices of the layers quantized; embedding, head and norms stay as they are.

    Each leaf is quantized on its own, and its float original freed before the next: the peak is the float base and one
    quantized leaf.

    Args:
      params: the stacked base, whose quantized leaves are taken over (do not use them afterwards).
      kind: "int8" or "nf4".

    Raises:
      UserError: if qwix is not installed.
    """
    quantized = dict(params, layers={name: dict(part) for name, part in params["layers"].items()})
    for path, axis in _summed_axes().items():
        _, module, matrix = path.split("/")
        leaf = quantized["layers"][module][matrix]
        quantize = functools.partial(_quantize_leaf, axis=axis, kind=kind)
        shardings = jax.tree.map(lambda part: part.sharding, _abstract(quantize, leaf))
        quantized["layers"][module][matrix] = jax.block_until_ready(jax.jit(quantize, out_shardings=shardings)(leaf))
        leaf.delete()
    return quantized


def abstract_quantized(params: Params, kind: Quantization) -> Params:
    """Returns what `quantize_base` would make of ShapeDtypeStructs with shardings."""
    quantized = dict(params, layers={name: dict(part) for name, part in params["layers"].items()})
    for path, axis in _summed_axes().items():
        _, module, matrix = path.split("/")
        leaf = quantized["layers"][module][matrix]
        quantized["layers"][module][matrix] = _abstract(functools.partial(_quantize_leaf, axis=axis, kind=kind), leaf)
    return quantized


def _abstract(quantize: Callable[[Array], Any], leaf: Any) -> Any:
    """Returns the quantized leaf as ShapeDtypeStructs, laid out as the leaf is."""
    return jax.tree.map(
        lambda part: jax.ShapeDtypeStruct(part.shape, part.dtype, sharding=_fitting(leaf.sharding, part.shape)),
        jax.eval_shape(quantize, leaf),
    )


def _fitting(sharding: Sharding, shape: tuple[int, ...]) -> Sharding:
    """Returns the sharding for an array whose axes may be shorter: whole along those that it does not divide."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    mesh = sharding.mesh

    def fit(axes: Any, size: int) -> Any:
        names = (axes,) if isinstance(axes, str) else axes or ()
        return axes if size % math.prod(mesh.shape[name] for name in names) == 0 else None

    return NamedSharding(mesh, PartitionSpec(*map(fit, sharding.spec, shape)))


def block_size(length: int) -> int:
    """Returns the weights of a block: the largest divisor of the axis that is at most `BLOCK`."""
    return max(size for size in range(1, BLOCK + 1) if length % size == 0)


def _quantize_leaf(leaf: Array, *, axis: int, kind: str) -> Any:
    """Returns a stacked matrix [L ...] as a QArray, one layer at a time, with blocks along `axis` of a layer."""
    qwix = _qwix()
    others = [other for other in range(leaf.ndim - 1) if other != axis]

    def quantize(matrix: Array) -> Any:
        return qwix.quantize(
            matrix.astype(jnp.float32),
            kind,
            channelwise_axes=others,
            tiled_axes={axis: block_size(matrix.shape[axis])},
        )

    return jax.lax.map(quantize, leaf)


def _summed_axes() -> dict[str, int]:
    """Returns for every matrix, by path, the last axis of a layer that its product sums over."""
    return {
        f"layers/{group.module}/{matrix}": len(group.inputs) - 1
        for group in GROUPS.values()
        for matrix in group.outputs
    }


def _qwix() -> Any:
    """Imports qwix.

    Raises:
      UserError: if it is not installed.
    """
    try:
        import qwix
    except ModuleNotFoundError:
        raise UserError("lora.quantize_base needs qwix: pip install -e '.[qlora]'.") from None
    return qwix
