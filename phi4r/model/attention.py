"""Causal attention with grouped queries: one mask rule for packed rows, left padding and cached decoding."""

import functools

import jax
import jax.numpy as jnp

from phi4r.typing import Array, Bool, Float, Int, typechecked

# Query positions in one block of scores: bounds the scores at [B, N, 512, S] whatever T is.
QUERY_BLOCK = 512
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
) -> Float[Array, "B T N H"]:
    """softmax(q k^T / sqrt(H)) v over the visible keys; scores and softmax in float32.

    Long inputs go through in blocks of queries, each recomputed in the backward pass, so that the scores of a whole
    [T, S] square never exist.
    """
    inner = functools.partial(
        _attend_block,
        key=key,
        value=value,
        key_segments=key_segments,
        key_positions=key_positions,
        window=window,
    )
    length = query.shape[1]
    if length <= QUERY_BLOCK:
        return inner(query, query_segments, query_positions)

    def split(x: Array) -> Array:  # [B T ...] -> [blocks B QUERY_BLOCK ...], padded with segment 0
        padded = jnp.pad(x, [(0, 0), (0, -length % QUERY_BLOCK)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(x.shape[0], -1, QUERY_BLOCK, *x.shape[2:]), 1, 0)

    blocks = (split(query), split(query_segments), split(query_positions))
    out = jax.lax.map(jax.checkpoint(lambda block: inner(*block)), blocks)
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
