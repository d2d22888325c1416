"""Adapters into weights: a model without adapters that computes the same, up to the rounding of its dtype."""

from typing import Any

import jax
import jax.numpy as jnp

from phi4r.model.config import ModelConfig
from phi4r.model.lora import GROUPS, adapter_delta, matrix_adapters
from phi4r.model.quantized import dense
from phi4r.typing import Array, Params


def merge_adapter(base: Params, adapter: Params, config: ModelConfig) -> Params:
    """Returns the stacked parameters W + (alpha / rank) A B in `config.param_dtype`, added in float32.

    In bfloat16 the sum is rounded to 1/256 of a weight, which may be more than an adapter has learnt: the adapters on
    their own are the exact result of a run. What has no adapter is shared with `base`, quantized matrices excepted.

    Args:
      base: stacked, possibly quantized.
      adapter: its adapters.
      config: with `lora`.
    """
    adapters = matrix_adapters(adapter, config.lora.targets)
    layers = {name: dict(part) for name, part in base["layers"].items()}
    for group in GROUPS.values():
        for matrix in group.outputs:
            leaf = layers[group.module][matrix]
            found = adapters.get(f"layers/{group.module}/{matrix}")
            layers[group.module][matrix] = _merged(leaf, found, config)
    return dict(base, layers=layers)


def _merged(leaf: Any, adapter: tuple[Array, Array] | None, config: ModelConfig) -> Array:
    """Returns one stacked matrix with its adapter added; float32 exists for a layer at a time."""
    if adapter is None and isinstance(leaf, jax.Array):
        return leaf

    def of_layer(parts: Any) -> Array:
        matrix, factors = parts
        weight = dense(matrix, jnp.float32)
        if factors is not None:
            weight = weight + adapter_delta(*factors, config.lora.scale)
        return weight.astype(config.param_dtype)

    sharding = jax.tree.leaves(leaf)[0].sharding
    return jax.jit(lambda *parts: jax.lax.map(of_layer, parts), out_shardings=sharding)(leaf, adapter)
