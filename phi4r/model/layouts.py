"""From the stacked layout of training to the unrolled one of decoding."""

import jax
import jax.numpy as jnp

from phi4r.model.config import ModelConfig
from phi4r.typing import Params


def unroll_params(params: Params, config: ModelConfig) -> Params:
    """Returns `params` with a subtree for each layer, and q, k, v and gate, up fused, in the dtype of activations.

    A decode step reads every weight once, so few large products beat many small ones. Every weight is a matrix
    [out, in], of which a product with few rows reads whole rows. Jit it: the result is a copy.
    """
    attn, mlp = params["layers"]["attn"], params["layers"]["mlp"]

    def layer(i: int) -> Params:
        heads = jnp.concatenate([attn[name][i] for name in ("q", "k", "v")], axis=1)  # [D N+2K H]
        return {
            "attn": {"qkv": heads.reshape(config.embed_dim, -1).T, "o": attn["o"][i].reshape(-1, config.embed_dim).T},
            "mlp": {"gate_up": jnp.concatenate([mlp["gate"][i], mlp["up"][i]], axis=1).T, "down": mlp["down"][i].T},
            "attn_norm": {"scale": params["layers"]["attn_norm"]["scale"][i]},
            "mlp_norm": {"scale": params["layers"]["mlp_norm"]["scale"][i]},
        }

    unrolled = {f"layers_{i}": layer(i) for i in range(config.num_layers)}
    outside = {name: leaf for name, leaf in params.items() if name != "layers"}
    return jax.tree.map(lambda leaf: leaf.astype(config.dtype), {**outside, **unrolled})
