"""Shapes: the legend of the single-letter axes, and the decorator that checks them.

Public functions on arrays are annotated with jaxtyping, `Float[Array, "B T D"]`, with the letters of the einsums:

    B  batch rows               D  embedding (residual stream)      V  vocabulary
    T  query positions          N  query heads, N = K * Q           L  layers
    S  key positions            K  key/value heads                  F  hidden width of the MLP
    G  samples in a group       Q  query heads of each KV head      P  prompts in a rollout batch
                                H  head dimension

`@typechecked` verifies the annotations of one call against each other. Under `jax.jit` that happens while
tracing, so it costs nothing at run time. Fields of pytree classes carry a trailing comment (`# [B T] int32`)
instead of an annotation, because they also hold ShapeDtypeStructs and shardings.
"""

from typing import Any

import jax
import numpy as np
from beartype import beartype
from jaxtyping import Bool, Float, Int, jaxtyped

Array = jax.Array | np.ndarray  # host code passes numpy rows where device code has traced ones
Params = dict[str, Any]  # the parameter tree: nested dicts with arrays at the leaves


def typechecked(function):
    """Checks the jaxtyping annotations of `function` whenever it is called or traced."""
    return jaxtyped(typechecker=beartype)(function)


__all__ = ["Array", "Bool", "Float", "Int", "Params", "typechecked"]
