"""What the forward pass keeps for the backward pass: named policies for the blocks.

Per token and layer, in units of the D numbers of a block's input (phi-4: 10 KiB in bfloat16): "full" keeps 1,
"attention" 2, "dots" about 11.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from phi4r.model.config import Remat

BLOCK_INPUT = "block_input"
# What a backward pass of attention needs besides queries, keys and values; every backend names them so.
ATTENTION_RESULTS = ("attention_out", "attention_lse")


def rematerialised(block: type[nn.Module], remat: Remat) -> type[nn.Module]:
    """Returns the module class `block` that computes again in the backward pass what `remat` does not keep."""
    if remat == "none":
        return block
    return nn.remat(block, prevent_cse=False, policy=_policy(remat))


def _policy(remat: Remat) -> Callable[..., Any] | None:
    """Returns the jax policy; None keeps nothing but the inputs."""
    policies = jax.checkpoint_policies
    if remat == "dots":
        return policies.save_from_both_policies(
            policies.dots_with_no_batch_dims_saveable, policies.save_only_these_names(*ATTENTION_RESULTS)
        )
    if remat == "attention":
        return policies.save_only_these_names(*ATTENTION_RESULTS)
    if remat == "offload":
        return policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[BLOCK_INPUT],
            offload_src="device",
            offload_dst="pinned_host",
        )
    return None
