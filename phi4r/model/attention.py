"""Causal attention with grouped queries: one mask rule for packed rows, left padding and cached decoding."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from phi4r.typing import Array, Bool, Float, Int, typechecked

# Query positions in one block of scores: bounds the scores at [B, N, 512, S] whatever T is.
QUERY_BLOCK = 512
# Where queries and keys are the same tokens, a row is cut into spans, and a span looks at the keys up to its end only:
# spans of at least 128 positions, and at most 16 of them, since each is compiled by itself.
MIN_SPAN = 128
MAX_SPANS = 16
MASKED = -1e30  # finite, so that a padding query, which sees nothing, gives an average and not NaN


@typechecked
def visible(
    query_segments: Int[Array, "B T"],
    query_positions: Int[Array, "B T"],
    key_segments: Int[Array, "B S"],
    key_positions: Int[Array, "B S"],
    window: int | None = None,
) -> Bool[Array, "B T S"]:
    """The mask rule: a query sees the keys of its own segment, at its own position or before it.

    Segment 0 is padding (or an empty slot of a cache) and is never seen. With a sliding `window` of W a query sees
    W positions, its own included.
    """
    query_segments, query_positions = query_segments[:, :, None], query_positions[:, :, None]
    key_segments, key_positions = key_segments[:, None, :], key_positions[:, None, :]
    mask = (query_segments == key_segments) & (key_segments > 0) & (key_positions <= query_positions)
    if window is not None:
        mask &= key_positions > query_positions - window
    return mask


@typechecked
def attend(
    query: Float[Array, "B T N H"],
    key: Float[Array, "B K S H"],
    value: Float[Array, "B K S H"],
    query_segments: Int[Array, "B T"],
    query_positions: Int[Array, "B T"],
    key_segments: Int[Array, "B S"],
    key_positions: Int[Array, "B S"],
    *,
    window: int | None = None,
    same_tokens: bool = False,
) -> Float[Array, "B T N H"]:
    """softmax(q k^T / sqrt(H)) v over the visible keys; scores and softmax in float32.

    Long inputs go through in blocks of queries, each recomputed in the backward pass, so that the scores of a whole
    [T, S] square never exist.

    Args:
      query: rotated queries.
      key: rotated keys.
      value: values.
      query_segments: 0 for padding.
      query_positions: position in the segment.
      key_segments: 0 for padding and empty slots.
      key_positions: position in the segment.
      window: how many last positions a query sees, itself included; None for all.
      same_tokens: whether the keys are those of the query tokens, with positions that rise along each segment. No
        query then sees a key to its right, and the upper triangle of the square is left out.
    """
    length = query.shape[1]
    span = _span_length(length) if same_tokens else length
    spans = []
    for start in range(0, length, span):
        stop = min(start + span, length)
        seen = stop if same_tokens else key.shape[2]
        attend_block = functools.partial(
            _attend_block,
            key=key[:, :, :seen],
            value=value[:, :, :seen],
            key_segments=key_segments[:, :seen],
            key_positions=key_positions[:, :seen],
            window=window,
        )
        if span < length:
            attend_block = jax.checkpoint(attend_block)
        queries = (query[:, start:stop], query_segments[:, start:stop], query_positions[:, start:stop])
        spans.append(_in_blocks(attend_block, *queries))
    return jnp.concatenate(spans, axis=1)


def _span_length(length: int) -> int:
    """Returns the length of the spans that `length` positions are cut into."""
    return max(MIN_SPAN, -(-length // (MAX_SPANS * MIN_SPAN)) * MIN_SPAN)


def _in_blocks(attend_block: Callable[..., Array], query: Array, segments: Array, positions: Array) -> Array:
    """Applies `attend_block` to queries [B T N H], at most QUERY_BLOCK at a time."""
    length = query.shape[1]
    if length <= QUERY_BLOCK:
        return attend_block(query, segments, positions)

    def split(x: Array) -> Array:  # [B T ...] -> [blocks B QUERY_BLOCK ...], padded with segment 0
        padded = jnp.pad(x, [(0, 0), (0, -length % QUERY_BLOCK)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(x.shape[0], -1, QUERY_BLOCK, *x.shape[2:]), 1, 0)

    blocks = (split(query), split(segments), split(positions))
    out = jax.lax.map(jax.checkpoint(lambda block: attend_block(*block)), blocks)
    return jnp.moveaxis(out, 0, 1).reshape(query.shape[0], -1, *query.shape[2:])[:, :length]


def _attend_block(query, query_segments, query_positions, *, key, value, key_segments, key_positions, window):
    """Attention of one block of queries over all keys."""
    batch, length, num_heads, head_dim = query.shape
    num_kv_heads = key.shape[1]
    grouped = query.reshape(batch, length, num_kv_heads, num_heads // num_kv_heads, head_dim)
    grouped = jnp.transpose(grouped, (0, 2, 3, 1, 4))  # batch axes first: the order in which products are made
    scores = jnp.einsum("bkgth,bksh->bkgts", grouped, key, preferred_element_type=jnp.float32)
    mask = visible(query_segments, query_positions, key_segments, key_positions, window)
    scores = scores * head_dim**-0.5 + jnp.where(mask, 0.0, MASKED)[:, None, None]
    # exp(scores) is normalised after the product with the values: [T, H] divisions instead of [T, S].
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    mixed = jnp.einsum("bkgts,bksh->bkgth", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    mixed = (mixed / jnp.sum(weights, axis=-1, keepdims=True)).astype(query.dtype)
    return jnp.transpose(mixed, (0, 3, 1, 2, 4)).reshape(query.shape)
