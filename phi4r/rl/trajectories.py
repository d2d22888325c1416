"""Trajectories: what the GRPO update eats; packed from samples without decoding or re-tokenising anything."""

import dataclasses
from collections.abc import Sequence

import flax.struct
import numpy as np

from phi4r.data.packing import best_fit
from phi4r.errors import UserError
from phi4r.model.inputs import TokenBatch, make_token_batch
from phi4r.rl.segments import MAX_SEGMENTS
from phi4r.sampling import Samples
from phi4r.train.step import fill_order
from phi4r.typing import Array, Float, typechecked


@flax.struct.dataclass
class Trajectories:
    """Responses, each a segment behind its prompt, with all that the objective needs to know about them.

    Everything per token is aligned to the targets, as in `TokenBatch`: entry t is about `batch.targets[t]`, and
    counts where `batch.loss_mask[t]` is 1, which are exactly the response tokens. The segments of a row are numbered
    from 1 to at most `MAX_SEGMENTS`; 0 is padding.
    """

    batch: TokenBatch
    sampler_logprobs: Array  # [B T] float32: log-probability under the policy that sampled, at its temperature
    ref_logprobs: Array | None  # [B T] float32: the same under the frozen reference; None before or without scoring
    advantages: Array  # [B T] float32: of the response that the token belongs to
    old_logprobs: Array | None = None  # [B T] float32: under the trainer before the first update; None: the sampler's

    @property
    def old(self) -> Array:
        """Log-probabilities that the ratio compares with, [B T]."""
        return self.sampler_logprobs if self.old_logprobs is None else self.old_logprobs


@dataclasses.dataclass(frozen=True)
class PackedShape:
    """The shape of packed trajectories: one for a whole run, so that nothing is ever compiled again.

    Rows suffice for responses that are all as long as they can be. Usual ones fill fewer, those of the first
    micro-batches, and micro-batches of empty rows cost nothing.

    Attributes:
      num_rows: rows of a batch.
      row_length: T.
      num_microbatches: parts in which the rows are scored and trained, filled one after the other.
    """

    num_rows: int
    row_length: int
    num_microbatches: int = 1

    @classmethod
    def fitting(
        cls,
        num_responses: int,
        longest: int,
        *,
        row_length: int = 0,
        num_microbatches: int = 1,
        row_shards: int = 1,
        context: int = 1,
    ) -> "PackedShape":
        """Returns the shape in which so many responses always find room.

        Args:
          num_responses: most responses in a batch.
          longest: most tokens of prompt and response together.
          row_length: T, or 0 for `longest`, and what is missing to a multiple of the parts of a row.
          num_microbatches: parts in which a batch is scored and trained.
          row_shards: over how many devices rows are spread.
          context: over how many devices a row is spread, each of which has two parts of it.

        Raises:
          UserError: if a response does not fit a row, or the row its devices.
        """
        parts = 2 * context if context > 1 else 1
        row_length = row_length or -(-longest // parts) * parts
        if row_length < longest:
            raise UserError(
                f"row_length={row_length} is less than sampler.prompt_length + sampler.max_response = {longest} tokens."
            )
        if row_length % parts:
            raise UserError(
                f"row_length={row_length} does not divide into two parts for each of context={context} devices; make "
                f"it a multiple of {parts}."
            )
        # Best fit opens a row only when all others are so full that not even a longest response would find room.
        in_a_row = row_length // max(longest, _least_room(row_length))
        unit = row_shards * num_microbatches
        return cls(-(-num_responses // (in_a_row * unit)) * unit, row_length, num_microbatches)


def samples_to_batch(samples: Samples) -> TokenBatch:
    """Returns the rows of `samples`, numpy arrays, as a TokenBatch that trains on the response tokens.

    The mask is the sampler's own record of what it drew. It is never inferred from pad ids: a pad id may equal the
    end token, and a model whose end token is masked never learns to stop.
    """
    return make_token_batch(samples.tokens, samples.segment_ids, samples.response_mask)


@typechecked
def pack_trajectories(
    samples: Samples, advantages: Float[Array, "B"], shape: PackedShape, responses: Sequence[int] | np.ndarray
) -> Trajectories:
    """Packs responses behind their prompts into rows, on the host; only the sampler has scored them yet.

    Longest first, each goes to the fullest row with room (`best_fit`), so packing depends on lengths alone.

    Args:
      samples: rows with left-padded prompts; `samples.logprobs[:, t]` is that of token t.
      advantages: one for each row of `samples`.
      shape: of the result.
      responses: rows of `samples` to pack.
    """
    real = np.asarray(samples.segment_ids) > 0
    first, lengths = real.argmax(axis=1), real.sum(axis=1)
    responses = np.asarray(responses, np.int64)
    rows = best_fit(np.maximum(lengths[responses], _least_room(shape.row_length)), shape.row_length)
    rows = fill_order(shape.num_rows, shape.num_microbatches)[rows]

    tokens, segment_ids = (np.zeros((shape.num_rows, shape.row_length), np.int32) for _ in range(2))
    trained = np.zeros(tokens.shape, bool)
    logprobs, spread = (np.zeros(tokens.shape, np.float32) for _ in range(2))
    ends, counts = np.zeros(shape.num_rows, np.int64), np.zeros(shape.num_rows, np.int64)
    for response, row in zip(responses, rows, strict=True):
        length = lengths[response]
        there, here = slice(ends[row], ends[row] + length), slice(first[response], first[response] + length)
        ends[row] += length
        counts[row] += 1
        segment_ids[row, there] = counts[row]
        tokens[row, there] = samples.tokens[response, here]
        trained[row, there] = samples.response_mask[response, here]
        logprobs[row, there] = samples.logprobs[response, here]
        spread[row, there] = advantages[response]

    batch = make_token_batch(tokens, segment_ids, trained)
    of_targets = np.concatenate([logprobs[:, 1:], np.zeros_like(logprobs[:, :1])], axis=1)
    return Trajectories(
        batch=batch,
        sampler_logprobs=np.where(batch.loss_mask > 0, of_targets, 0.0).astype(np.float32),
        ref_logprobs=None,
        advantages=spread * batch.loss_mask,
    )


def rows_in_use(trajectories: Trajectories) -> Array:
    """Returns which rows have a response, [B] bool."""
    return (trajectories.batch.segment_ids > 0).any(axis=1)


def _least_room(row_length: int) -> int:
    """Returns the room that a response takes at least, so that no row has more than `MAX_SEGMENTS`."""
    return -(-row_length // MAX_SEGMENTS)
