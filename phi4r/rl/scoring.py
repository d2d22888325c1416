"""Log-probabilities of sampled responses under a fixed policy: the frozen reference of the KL penalty."""

from collections.abc import Callable

import jax

from phi4r.model.inputs import TokenBatch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer
from phi4r.train.step import join_rows, split_rows
from phi4r.typing import Array, Params


def make_score_fn(
    model: Transformer, *, chunk_size: int, temperature: float, num_microbatches: int = 1
) -> Callable[[Params, TokenBatch], Array]:
    """Returns the jitted (params, batch) -> log-probabilities [B T] of the targets.

    Args:
      model: the stacked decoder.
      chunk_size: positions of a row whose logits exist at a time.
      temperature: of the rollouts.
      num_microbatches: parts of the batch that are scored one after the other, as in the update.
    """

    def score(params: Params, batch: TokenBatch) -> Array:
        def part(rows: TokenBatch) -> Array:
            return token_logprobs(model, params, rows, chunk_size=chunk_size, temperature=temperature)[0]

        if num_microbatches == 1:
            return part(batch)
        return join_rows(jax.lax.map(part, split_rows(batch, num_microbatches)))

    return jax.jit(score)
