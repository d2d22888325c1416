"""From the stacked layout of training to the unrolled one of decoding, its matrices as they are or in int8."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from phi4r.model.config import ModelConfig
from phi4r.model.int8 import DecodeWeights, Int8Matrix, quantize
from phi4r.model.lora import is_adapter_leaf
from phi4r.model.quantized import dense
from phi4r.model.transformer import abstract_params, param_axes
from phi4r.sharding import param_shardings
from phi4r.typing import Array, Params

# The axes that the product of each matrix of the unrolled layout sums over, by the name of its leaf.
_INPUTS = {
    "embedding": (1,),
    "lm_head": (0,),
    "q": (3,),
    "kv": (3,),
    "o": (1, 2, 3),
    "gate_up": (2,),
    "down": (1,),
}


def unroll_params(params: Params, config: ModelConfig, weights: DecodeWeights = "float") -> Params:
    """Returns `params` with a subtree for each layer, and k, v and gate, up fused, in the dtype of activations.

    A decode step reads every weight once, so few large products beat many small ones. Every weight is a matrix
    [out, in], of which a product with few rows reads whole rows; what is fused has an axis of its own, so that tensor
    shards divide each part alike. Jit it: the result is a copy.

    Quantized matrices become numbers. Adapters stay apart: merged into a weight in bfloat16 most of what they have
    learnt would be rounded away, and the sampler would draw from another policy than the one that is trained.

    Args:
      params: stacked.
      config: the model.
      weights: "int8" to store every matrix, embedding and head included, as an `Int8Matrix`, which the unrolled
        Transformer multiplies with; norms and adapters stay in their dtypes.
    """
    dtype = config.dtype if weights == "float" else "float32"  # what becomes int8 is rounded once

    def layer(i: int) -> Params:
        parts = {
            name: {leaf: _of_layer(part[leaf], i, leaf, dtype) for leaf in part}
            for name, part in params["layers"].items()
        }
        attn, mlp = parts["attn"], parts["mlp"]
        kv = jnp.stack([attn["k"], attn["v"]])  # [2 D K H]
        return {
            "attn": {
                "q": jnp.moveaxis(attn["q"], 0, -1),
                "kv": jnp.moveaxis(kv, 1, -1),
                "o": jnp.moveaxis(attn["o"], -1, 0),
                **_adapters(attn),
            },
            "mlp": {"gate_up": jnp.stack([mlp["gate"].T, mlp["up"].T]), "down": mlp["down"].T, **_adapters(mlp)},
            "attn_norm": parts["attn_norm"],
            "mlp_norm": parts["mlp_norm"],
        }

    unrolled = {f"layers_{i}": layer(i) for i in range(config.num_layers)}
    outside = {name: leaf for name, leaf in params.items() if name != "layers"}

    def stored(name: str, leaf: Array) -> Array | Int8Matrix:
        if is_adapter_leaf(name):
            return leaf
        return quantize(leaf, _INPUTS[name]) if weights == "int8" and name in _INPUTS else leaf.astype(config.dtype)

    return _map_leaves(stored, {**outside, **unrolled})


def _of_layer(leaf: Any, i: int, name: str, dtype: str) -> Array:
    """Returns layer `i` of a stacked leaf in `dtype`; adapters keep theirs, to be scaled as in training."""
    part = jax.tree.map(lambda x: x[i], leaf)
    return part if is_adapter_leaf(name) else dense(part, dtype)


def _adapters(part: Params) -> Params:
    """Returns the leaves of adapters alone."""
    return {name: leaf for name, leaf in part.items() if is_adapter_leaf(name)}


def _map_leaves(function: Callable[[str, Any], Any], tree: Params) -> Params:
    """Returns the tree with function(own name, leaf) in place of every leaf; a tuple is a leaf."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: function(path[-1].key, leaf), tree, is_leaf=lambda x: isinstance(x, tuple)
    )


def abstract_unrolled(config: ModelConfig, weights: DecodeWeights = "float") -> Params:
    """Returns what `unroll_params` makes, as ShapeDtypeStructs."""
    return jax.eval_shape(functools.partial(unroll_params, config=config, weights=weights), abstract_params(config))


def unrolled_shardings(config: ModelConfig, mesh: Mesh, weights: DecodeWeights = "float") -> Params:
    """Returns the shardings of the unrolled parameters: divided over `tensor`, and otherwise whole on each device.

    A decode step reads every weight, so parts gathered from other replicas would cost more than the step itself.
    """
    axes = jax.tree.map(
        lambda names: tuple(None if name == "embed" else name for name in names),
        param_axes(config, unrolled=True),
        is_leaf=lambda x: isinstance(x, tuple),
    )

    def stored(name: str, names: tuple[str | None, ...]) -> Any:
        if weights == "float" or name not in _INPUTS:
            return names
        return Int8Matrix(names, tuple(axis for i, axis in enumerate(names) if i not in _INPUTS[name]))

    return param_shardings(mesh, _map_leaves(stored, axes), abstract_unrolled(config, weights))
