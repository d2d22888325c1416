"""From the stacked layout of training to the unrolled one of decoding."""

import jax
import jax.numpy as jnp

from jax.sharding import Mesh

from phi4r.model.config import ModelConfig
from phi4r.model.transformer import abstract_params, param_axes
from phi4r.sharding import param_shardings
from phi4r.typing import Params


def unroll_params(params: Params, config: ModelConfig) -> Params:
    """Returns `params` with a subtree for each layer, and k, v and gate, up fused, in the dtype of activations.

    A decode step reads every weight once, so few large products beat many small ones. Every weight is a matrix
    [out, in], of which a product with few rows reads whole rows; what is fused has an axis of its own, so that tensor
    shards divide each part alike. Jit it: the result is a copy.
    """
    attn, mlp = params["layers"]["attn"], params["layers"]["mlp"]

    def layer(i: int) -> Params:
        kv = jnp.stack([attn["k"][i], attn["v"][i]])  # [2 D K H]
        return {
            "attn": {
                "q": jnp.moveaxis(attn["q"][i], 0, -1),
                "kv": jnp.moveaxis(kv, 1, -1),
                "o": jnp.moveaxis(attn["o"][i], -1, 0),
            },
            "mlp": {"gate_up": jnp.stack([mlp["gate"][i].T, mlp["up"][i].T]), "down": mlp["down"][i].T},
            "attn_norm": {"scale": params["layers"]["attn_norm"]["scale"][i]},
            "mlp_norm": {"scale": params["layers"]["mlp_norm"]["scale"][i]},
        }

    unrolled = {f"layers_{i}": layer(i) for i in range(config.num_layers)}
    outside = {name: leaf for name, leaf in params.items() if name != "layers"}
    return jax.tree.map(lambda leaf: leaf.astype(config.dtype), {**outside, **unrolled})


def unrolled_shardings(config: ModelConfig, mesh: Mesh) -> Params:
    """Returns the shardings of the unrolled parameters: divided over `tensor`, and otherwise whole on each device.

    A decode step reads every weight, so parts gathered from other replicas would cost more than the step itself.
    """
    axes = jax.tree.map(
        lambda names: tuple(None if name == "embed" else name for name in names),
        param_axes(config, unrolled=True),
        is_leaf=lambda x: isinstance(x, tuple),
    )
    return param_shardings(mesh, axes, abstract_params(config, unrolled=True))
