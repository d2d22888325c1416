"""TokenBatch: what the model eats, and the one place where tokens are shifted into targets."""

from typing import Any

import flax.struct
import numpy as np

from phi4r.typing import Array


@flax.struct.dataclass
class TokenBatch:
    """Rows of packed or padded segments, ready for a loss.

    `segment_ids` says which tokens belong together: 0 is padding, equal non-zero ids in a row are one segment.
    Position t predicts `targets[t]`, and counts in a loss with weight `loss_mask[t]`.
    """

    tokens: Array  # [B T] int32
    targets: Array  # [B T] int32: the token after each, 0 where there is none in the segment
    segment_ids: Array  # [B T] int32
    positions: Array  # [B T] int32: position inside the segment, for the rotary embedding
    loss_mask: Array  # [B T] float32: 1 where the target is a trained token


def make_token_batch(tokens: Any, segment_ids: Any, trained: Any, positions: Any = None, *, xp=np) -> TokenBatch:
    """Builds a TokenBatch from rows of tokens; the shift to targets happens here and nowhere else.

    Args:
      tokens: [B T] int.
      segment_ids: [B T] int, 0 for padding.
      trained: [B T] bool, true where the token itself is to be learnt (the response and its end token).
      positions: [B T] int, or None to count from 0 in every run of equal segment ids.
      xp: numpy or jax.numpy.

    Returns:
      The batch. The last token of a segment has no target: its loss mask is 0, so nothing learns to predict padding
      or the first token of the next document.
    """
    if positions is None:
        positions = segment_positions(segment_ids, xp=xp)
    same_segment = (segment_ids[:, :-1] == segment_ids[:, 1:]) & (segment_ids[:, 1:] > 0)
    last = xp.zeros_like(segment_ids[:, :1], dtype=bool)
    has_target = xp.concatenate([same_segment, last], axis=1)
    next_token = xp.concatenate([tokens[:, 1:], xp.zeros_like(tokens[:, :1])], axis=1)
    next_trained = xp.concatenate([trained[:, 1:], xp.zeros_like(trained[:, :1])], axis=1)
    return TokenBatch(
        tokens=tokens.astype(xp.int32),
        targets=xp.where(has_target, next_token, 0).astype(xp.int32),
        segment_ids=segment_ids.astype(xp.int32),
        positions=positions.astype(xp.int32),
        loss_mask=(has_target & next_trained.astype(bool)).astype(xp.float32),
    )


def segment_positions(segment_ids: Any, *, xp=np) -> Any:
    """Returns the position of every token inside its run of equal segment ids, from 0; [B T] int32."""
    index = xp.broadcast_to(xp.arange(segment_ids.shape[1], dtype=xp.int32), segment_ids.shape)
    changed = segment_ids[:, 1:] != segment_ids[:, :-1]
    starts = xp.concatenate([xp.ones_like(segment_ids[:, :1], dtype=bool), changed], axis=1)
    start_index = xp.where(starts, index, 0)
    if xp is np:
        return (index - np.maximum.accumulate(start_index, axis=1)).astype(np.int32)
    from jax.lax import cummax

    return index - cummax(start_index, axis=1)
