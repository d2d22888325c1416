"""Trajectories: what the GRPO update eats; made from samples without decoding or re-tokenising anything."""

import flax.struct
import numpy as np

from phi4r.model.inputs import TokenBatch, make_token_batch
from phi4r.sampling import Samples
from phi4r.typing import Array, Float, typechecked


@flax.struct.dataclass
class Trajectories:
    """Responses with all that the objective needs to know about them.

    Everything per token is aligned to the targets, as in `TokenBatch`: entry t is about `batch.targets[t]`, and
    counts where `batch.loss_mask[t]` is 1, which are exactly the response tokens.
    """

    batch: TokenBatch
    sampler_logprobs: Array  # [B T] float32: log-probability under the policy that sampled, at its temperature
    ref_logprobs: Array | None  # [B T] float32: the same under the frozen reference policy; None until it has scored
    advantages: Array  # [B] float32


def samples_to_batch(samples: Samples) -> TokenBatch:
    """Returns the rows of `samples`, numpy arrays, as a TokenBatch that trains on the response tokens.

    The mask is the sampler's own record of what it drew. It is never inferred from pad ids: a pad id may equal the
    end token, and a model whose end token is masked never learns to stop.
    """
    return make_token_batch(samples.tokens, samples.segment_ids, samples.response_mask)


@typechecked
def make_trajectories(samples: Samples, advantages: Float[Array, "B"]) -> Trajectories:
    """Joins samples and advantages, on the host; the log-probabilities of the reference are still to come.

    Args:
      samples: rows with left-padded prompts; `samples.logprobs[:, t]` is that of token t.
      advantages: one for each row.
    """
    batch = samples_to_batch(samples)
    logprobs = np.concatenate([samples.logprobs[:, 1:], np.zeros_like(samples.logprobs[:, :1])], axis=1)
    return Trajectories(
        batch=batch,
        sampler_logprobs=np.where(batch.loss_mask > 0, logprobs, 0.0).astype(np.float32),
        ref_logprobs=None,
        advantages=np.asarray(advantages, np.float32),
    )
