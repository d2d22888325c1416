"""The matrix product of the MLP, with a gradient in the order of the weight."""

import jax
import jax.numpy as jnp

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
