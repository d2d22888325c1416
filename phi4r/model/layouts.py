"""From the stacked layout of training to the unrolled one of decoding."""

import jax
import jax.numpy as jnp

from phi4r.model.config import ModelConfig
from phi4r.typing import Params


def unroll_params(params: Params, config: ModelConfig) -> Params:
    """Returns `params` with a subtree for each layer, and q, k, v and gate, up fused, in the dtype of activations.

    A decode step reads every weight once, so few large products beat many small ones. Jit it: the result is a copy.
    """
    layers = params["layers"]
    qkv = jnp.concatenate([layers["attn"][name] for name in ("q", "k", "v")], axis=2)
    gate_up = jnp.concatenate([layers["mlp"]["gate"], layers["mlp"]["up"]], axis=2)
    unrolled = {
        f"layers_{i}": {
            "attn": {"qkv": qkv[i], "o": layers["attn"]["o"][i]},
            "mlp": {"gate_up": gate_up[i], "down": layers["mlp"]["down"][i]},
            "attn_norm": {"scale": layers["attn_norm"]["scale"][i]},
            "mlp_norm": {"scale": layers["mlp_norm"]["scale"][i]},
        }
        for i in range(config.num_layers)
    }
    outside = {name: leaf for name, leaf in params.items() if name != "layers"}
    return jax.tree.map(lambda leaf: leaf.astype(config.dtype), {**outside, **unrolled})
