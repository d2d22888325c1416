"""Log-probabilities of packed responses under the frozen reference, and under the policy before it is updated."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from phi4r.model.config import ModelConfig
from phi4r.model.inputs import TokenBatch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.trajectories import Trajectories
from phi4r.train.step import join_rows, parts_in_use, split_rows, take_part
from phi4r.typing import Array, Params


def make_score_fn(
    model: Transformer, *, chunk_size: int, temperature: float, num_microbatches: int = 1
) -> Callable[[Params, TokenBatch], Array]:
    """Returns the jitted (params, batch) -> log-probabilities [B T] of the targets.

    Args:
      model: the stacked decoder.
      chunk_size: positions of a row whose logits exist at a time.
      temperature: of the rollouts.
      num_microbatches: parts of the batch that are scored one after the other, as in the update; those behind the
        last row with tokens are not scored.
    """

    def score(params: Params, batch: TokenBatch) -> Array:
        def part(rows: TokenBatch) -> Array:
            return token_logprobs(model, params, rows, chunk_size=chunk_size, temperature=temperature)[0]

        if num_microbatches == 1:
            return part(batch)
        parts = split_rows(batch, num_microbatches)
        scored = jax.lax.fori_loop(
            0,
            parts_in_use((batch.segment_ids > 0).any(axis=1), num_microbatches),
            lambda index, scored: scored.at[index].set(part(take_part(parts, index))),
            jnp.zeros(parts.tokens.shape, jnp.float32),
        )
        return join_rows(scored)

    return jax.jit(score)


class Scorer:
    """Adds to trajectories the log-probabilities that the objective needs.

    Those of the reference where there is a KL penalty, and those of the policy itself under old_logprobs="trainer".

    Attributes:
      score_policy: the jitted (policy, batch) -> log-probabilities [B T].
    """

    def __init__(self, config: ModelConfig, settings: GrpoSettings, *, chunk_size: int, num_microbatches: int = 1):
        """Prepares the compiled functions; nothing is compiled before the first call.

        Args:
          config: of the policy; the reference is without adapters.
          settings: what the objective compares with, and at which temperature.
          chunk_size: see `make_score_fn`.
          num_microbatches: see `make_score_fn`.
        """
        cost = {
            "chunk_size": chunk_size,
            "temperature": settings.temperature,
            "num_microbatches": num_microbatches,
        }
        self.score_policy = make_score_fn(Transformer(config), **cost)
        self._score_reference = make_score_fn(Transformer(config.replace(lora=None)), **cost)
        self._settings = settings

    def __call__(self, trajectories: Trajectories, policy: Params, reference: Params | None) -> Trajectories:
        """Returns the trajectories with what they lack.

        Args:
          trajectories: on the mesh, scored by the sampler.
          policy: before any update on them.
          reference: frozen; None where there is no penalty.
        """
        batch = trajectories.batch
        if self._settings.kl_beta:
            trajectories = trajectories.replace(ref_logprobs=self._score_reference(reference, batch))
        if self._settings.old_logprobs == "trainer":
            trajectories = trajectories.replace(old_logprobs=self.score_policy(policy, batch))
        return trajectories
