"""Matrix products: the MLP's in training, with a gradient in the order of the weight, and the layers' in decoding."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from phi4r.model.int8 import Int8Matrix
from phi4r.typing import Array, Float


@jax.custom_vjp
def linear(x: Float[Array, "B T D"], weight: Float[Array, "D F"]) -> Float[Array, "B T F"]:
    """Returns x @ weight.

    The automatic gradient of the weight is a product in the order [F, D], transposed as it is written, at a third of
    the speed of a plain product on CPUs. The rule here transposes the narrower of the two factors instead.
    """
    return x @ weight


def _forward(x: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    """Returns the product, and what its gradient needs."""
    return x @ weight, (x, weight)


def _backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    """Returns the gradients of x and weight."""
    x, weight = saved
    x_grad = jnp.einsum("btf,df->btd", grad, weight)
    if x.shape[-1] <= grad.shape[-1]:
        return x_grad, jnp.einsum("btd,btf->df", x, grad)
    # The barrier keeps the compiler from moving the transposition of the small result back to the large factor.
    return x_grad, jax.lax.optimization_barrier(jnp.einsum("btf,btd->fd", grad, x)).T


linear.defvjp(_forward, _backward)


def rows_product(weight: Array | Int8Matrix, x: Array, num_inputs: int = 1) -> Array:
    """Returns the product of a weight [*out *in] of the unrolled layout with activations [B T *in]; [B T *out].

    On one device both are made plain matrices first: of a product with several output axes XLA makes slow code on CPUs,
    at a quarter of the speed for one row. On a mesh the axes stay apart, as each may lie on an axis of its own.

    Args:
      weight: a matrix whose last `num_inputs` axes are multiplied, in the dtype of x or in int8.
      x: activations.
      num_inputs: number of axes of *in.
    """
    if not isinstance(weight, Int8Matrix):
        return _rows_product(weight, x, num_inputs)
    wide = _rows_product(weight.values.astype(x.dtype), x, num_inputs, preferred_element_type=jnp.float32)
    return (wide * weight.scale[None, None]).astype(x.dtype)


def _rows_product(weight: Array, x: Array, num_inputs: int, **options: Any) -> Array:
    """Returns the product with a weight in the dtype of x."""
    outputs = weight.ndim - num_inputs
    if jax.sharding.get_abstract_mesh().size > 1:
        axes = tuple(range(2, x.ndim)), tuple(range(outputs, weight.ndim))
        return jnp.tensordot(x, weight, axes=axes, **options)
    matrix = weight.reshape(math.prod(weight.shape[:outputs]), -1)
    rows = x.reshape(-1, matrix.shape[1])
    # One row as a vector: some products of a matrix of one row take five times as long on CPUs.
    rows = jnp.matmul(matrix, rows[0], **options) if len(rows) == 1 else jnp.matmul(rows, matrix.T, **options)
    return rows.reshape(*x.shape[:2], *weight.shape[:outputs])
