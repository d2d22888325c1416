"""The reference backend: all scores of a block of queries at a time, in plain einsums."""

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from phi4r.model.attention.mask import Tokens, visible
from phi4r.typing import Array

# Query positions in one block of scores: bounds the scores at [B, N, 512, S] whatever T is.
QUERY_BLOCK = 512
MASKED = -1e30  # finite, so that a padding query, which sees nothing, gives an average and not NaN


def attend_dense(
    query: Array,
    key: Array,
    value: Array,
    queries: Tokens,
    keys: Tokens,
    *,
    window: int | None = None,
    context_shards: int = 1,
) -> Array:
    """Attention for tokens in any order, a cache included; see `phi4r.model.attention.attend` for the arguments.

    Long inputs go through in blocks of queries, each recomputed in the backward pass.
    """
    del context_shards  # the mask rule alone decides, whatever the order
    length = query.shape[1]
    if length <= QUERY_BLOCK:
        return checkpoint_name(_attend_block(query, *queries, key, value, keys, window), "attention_out")

    def split(x: Array) -> Array:  # [B T ...] -> [blocks B QUERY_BLOCK ...], padded with segment 0
        padded = jnp.pad(x, [(0, 0), (0, -length % QUERY_BLOCK)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(x.shape[0], -1, QUERY_BLOCK, *x.shape[2:]), 1, 0)

    blocks = (split(query), *map(split, queries))
    out = jax.lax.map(jax.checkpoint(lambda block: _attend_block(*block, key, value, keys, window)), blocks)
    out = jnp.moveaxis(out, 0, 1).reshape(query.shape[0], -1, *query.shape[2:])[:, :length]
    return checkpoint_name(out, "attention_out")


def _attend_block(query, query_segments, query_positions, key, value, keys: Tokens, window: int | None) -> Array:
    """Attention of one block of queries [B T K Q H] over all keys [B K S H]."""
    grouped = jnp.transpose(query, (0, 2, 3, 1, 4))  # batch axes first: the order in which products are made
    scores = jnp.einsum("bkqth,bksh->bkqts", grouped, key, preferred_element_type=jnp.float32)
    mask = visible(query_segments, query_positions, *keys, window)
    scores = scores * query.shape[-1] ** -0.5 + jnp.where(mask, 0.0, MASKED)[:, None, None]
    # exp(scores) is normalised after the product with the values: [T, H] divisions instead of [T, S].
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    mixed = jnp.einsum("bkqts,bksh->bkqth", weights.astype(value.dtype), value, preferred_element_type=jnp.float32)
    mixed = (mixed / jnp.sum(weights, axis=-1, keepdims=True)).astype(query.dtype)
    return jnp.transpose(mixed, (0, 3, 1, 2, 4))
