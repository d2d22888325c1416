"""Attention by blocks with an online softmax: memory O(T) in both passes, on any device.

The algorithm of FlashAttention-2 (Dao 2023, sections 3.1 and 3.2) in plain products: the forward pass keeps the output
and the logsumexp of every query; the backward pass computes the weights again, a block at a time. A block of queries
visits only the key blocks from the first key that one of its queries sees to the last one, so neither the upper
triangle nor the blocks of other segments cost anything.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from phi4r.model.attention.mask import Tokens, visible
from phi4r.model.attention.places import query_places
from phi4r.typing import Array

MASKED = -1e30  # the score of a key that is not seen
UNSEEN = -1e29  # where the running maximum starts: exp(MASKED - UNSEEN) = 0, so a query that sees nothing gives 0


class Bounds(NamedTuple):
    """The key blocks `first` <= j < `end` that each block of queries visits."""

    first: Array  # [n] int32
    end: Array  # [n] int32


def attend_blockwise(
    query: Array,
    key: Array,
    value: Array,
    queries: Tokens,
    keys: Tokens,
    *,
    window: int | None = None,
    context_shards: int = 1,
) -> Array:
    """Attention over whole rows, the keys in natural order; see `phi4r.model.attention.attend` for the arguments.

    A padding query gives 0.

    Args:
      query: [B T K Q H].
      key: [B K S H].
      value: [B K S H].
      queries: [B T].
      keys: [B S].
      window: how many last positions a query sees; None for all.
      context_shards: C; where it is more than 1, the queries are parts i and 2C - 1 - i of the row, for this device's
        index i on the mesh axis `context`.

    Returns:
      [B T K Q H].
    """
    batch, length, kv_heads, group, head_dim = query.shape
    places = query_places(length, context_shards)
    runs = len(places)
    query_block, key_block = block_sizes(length // runs, key.shape[2], head_dim)

    def split(x: Array) -> Array:  # [B T ...] -> [n query_block ...]; blocks do not reach over the end of a run
        x = x.reshape(batch * runs, -1, *x.shape[2:])
        return _padded(x, 1, query_block).reshape(-1, query_block, *x.shape[2:])

    def join(x: Array) -> Array:  # [n query_block ...] -> [B T ...]
        x = x.reshape(batch * runs, -1, *x.shape[2:])[:, : length // runs]
        return x.reshape(batch, length, *x.shape[2:])

    bounds = block_bounds(queries, keys, places, window, query_block, key_block)
    queries = Tokens(*map(split, queries))
    key, value = (_padded(x, 2, key_block) for x in (key, value))
    keys = Tokens(*(_padded(x, 1, key_block) for x in keys))
    # The query heads of a KV head become rows of one product: [n K query_block*Q H].
    query = jnp.swapaxes(split(query), 1, 2).reshape(-1, kv_heads, query_block * group, head_dim)
    out = _attend(key_block, window, query, key, value, queries, keys, bounds)
    return join(jnp.swapaxes(out.reshape(-1, kv_heads, query_block, group, head_dim), 1, 2))


def block_sizes(query_length: int, key_length: int, head_dim: int) -> tuple[int, int]:
    """Returns how many queries and how many keys are in a block.

    Blocks are about 256 long, or 512 in long rows, where fewer and larger products pay; half of that for wide heads, so
    that keys, values and results of a block stay near the processor. The length is divided evenly: 300 are two blocks
    of 152, and not one of 256 and one that is mostly padding.
    """

    def size(length: int) -> int:
        longest = (512 if key_length >= 8192 else 256) // (2 if head_dim > 128 else 1)
        if length <= longest:
            return length
        even = -(-length // -(-length // longest))
        return -(-even // 8) * 8

    return size(query_length), size(key_length)


def block_bounds(
    queries: Tokens, keys: Tokens, places: Array, window: int | None, query_block: int, key_block: int
) -> Bounds:
    """Returns the key blocks that each block of queries has to visit, none for a block of padding.

    Args:
      queries: [B T].
      keys: [B S].
      places: [runs, T / runs], of the queries in the row.
      window: as in `attend`. Positions rise by at least 1 from key to key, so it reaches back that many places at most.
      query_block: queries in a block.
      key_block: keys in a block.
    """
    segments, _ = keys
    index = jnp.arange(segments.shape[1])
    changed = jnp.pad(segments[:, 1:] != segments[:, :-1], [(0, 0), (1, 0)])
    starts = jax.lax.cummax(jnp.where(changed, index[None], 0), axis=1)  # [B S]: where the segment of each key starts
    first = starts[:, places]  # [B runs T/runs]
    if window is not None:
        first = jnp.maximum(first, (places - (window - 1))[None])
    real = (queries.segment_ids > 0).reshape(first.shape)
    first = jnp.where(real, first, segments.shape[1])
    last = jnp.where(real, places[None], -1)
    unseen = [(0, 0), (0, 0), (0, -first.shape[2] % query_block)]
    first = jnp.pad(first, unseen, constant_values=segments.shape[1]).reshape(-1, query_block).min(axis=1)
    last = jnp.pad(last, unseen, constant_values=-1).reshape(-1, query_block).max(axis=1)
    return Bounds(first // key_block, last // key_block + 1)


def _padded(x: Array, axis: int, block: int) -> Array:
    """Returns x with zeros (segment 0: padding) up to a whole number of blocks."""
    missing = -x.shape[axis] % block
    return jnp.pad(x, [(0, missing if i == axis else 0) for i in range(x.ndim)]) if missing else x


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(key_block: int, window: int | None, query, key, value, queries: Tokens, keys: Tokens, bounds: Bounds):
    """Attention of blocks of queries [n K M H], M = query_block * Q, over keys [B K S H]; n / B blocks a row."""
    return _forward(key_block, window, query, key, value, queries, keys, bounds)[0]


def _forward(key_block, window, query, key, value, queries, keys, bounds):
    """Returns the output, and what the backward pass needs."""

    def attend_block(block):
        row, query, queries, bounds = block
        scores_of = _scores(query, queries, key, keys, row, key_block, window)

        def visit(j, carry):
            out, top, total = carry  # [K M H], [K M 1], [K M 1]
            scores = scores_of(j)
            new_top = jnp.maximum(top, jnp.max(scores, axis=-1, keepdims=True))
            weights, shrink = jnp.exp(scores - new_top), jnp.exp(top - new_top)
            total = total * shrink + jnp.sum(weights, axis=-1, keepdims=True)
            return out * shrink + _product("kms,ksh->kmh", weights, _block(value, row, j, key_block)), new_top, total

        column = (*query.shape[:2], 1)
        nothing = jnp.zeros(query.shape, jnp.float32), jnp.full(column, UNSEEN), jnp.zeros(column)
        out, top, total = jax.lax.fori_loop(*bounds, visit, nothing)
        total = jnp.where(total > 0, total, 1.0)
        return (out / total).astype(query.dtype), (top + jnp.log(total))[..., 0]

    out, lse = jax.lax.map(attend_block, (_row_of_blocks(query, key), query, queries, bounds))
    out, lse = checkpoint_name(out, "attention_out"), checkpoint_name(lse, "attention_lse")
    return out, (query, key, value, queries, keys, bounds, out, lse)


def _backward(key_block, window, saved, out_grad):
    """Returns the gradients of query, key and value."""
    query, key, value, queries, keys, bounds, out, lse = saved
    scale = query.shape[-1] ** -0.5
    delta = jnp.sum(out.astype(jnp.float32) * out_grad.astype(jnp.float32), axis=-1)  # [n K M]

    def add_block(key_grads, block):
        row, query, queries, bounds, out_grad, lse, delta = block
        scores_of = _scores(query, queries, key, keys, row, key_block, window)

        def visit(j, carry):
            query_grad, key_grad, value_grad = carry
            weights = jnp.exp(scores_of(j) - lse[..., None])
            weights_grad = _product("kmh,ksh->kms", out_grad, _block(value, row, j, key_block))
            scores_grad = weights * (weights_grad - delta[..., None]) * scale
            query_grad += _product("kms,ksh->kmh", scores_grad, _block(key, row, j, key_block))
            key_grad = _add_to_block(key_grad, row, j, _product("kms,kmh->ksh", scores_grad, query))
            value_grad = _add_to_block(value_grad, row, j, _product("kms,kmh->ksh", weights, out_grad))
            return query_grad, key_grad, value_grad

        query_grad, *key_grads = jax.lax.fori_loop(*bounds, visit, (jnp.zeros(query.shape, jnp.float32), *key_grads))
        return tuple(key_grads), query_grad.astype(query.dtype)

    nothing = jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    blocks = (_row_of_blocks(query, key), query, queries, bounds, out_grad, lse, delta)
    (key_grad, value_grad), query_grad = jax.lax.scan(add_block, nothing, blocks)
    return query_grad, key_grad.astype(key.dtype), value_grad.astype(value.dtype), None, None, None


_attend.defvjp(_forward, _backward)


def _row_of_blocks(query: Array, key: Array) -> Array:
    """Returns the row of the batch that each block of queries is in; [n] int32."""
    return jnp.repeat(jnp.arange(key.shape[0]), query.shape[0] // key.shape[0])


def _product(spec: str, left: Array, right: Array) -> Array:
    """Returns a batched matrix product in the dtype of `right`, summed in float32."""
    return jnp.einsum(spec, left.astype(right.dtype), right, preferred_element_type=jnp.float32)


def _scores(query, queries: Tokens, key, keys: Tokens, row, key_block: int, window: int | None):
    """Returns a function that gives the scores [K M key_block] of one block of queries with key block j."""
    scale, group = query.shape[-1] ** -0.5, query.shape[1] // queries.segment_ids.shape[0]

    def scores_of(j):
        scores = _product("kmh,ksh->kms", query, _block(key, row, j, key_block))
        keys_j = (jax.lax.dynamic_slice(x, (row, j * key_block), (1, key_block)) for x in keys)
        mask = visible(queries.segment_ids[None], queries.positions[None], *keys_j, window)
        return jnp.where(jnp.repeat(mask, group, axis=1), scores * scale, MASKED)

    return scores_of


def _block(x: Array, row: Array, j: Array, size: int) -> Array:
    """Returns block j of one row of x [B K S H]; [K size H]."""
    return jax.lax.dynamic_slice(x, (row, 0, j * size, 0), (1, x.shape[1], size, x.shape[3]))[0]


def _add_to_block(x: Array, row: Array, j: Array, block: Array) -> Array:
    """Returns x [B K S H] with `block` [K size H] added to block j of one row."""
    size = block.shape[1]
    return jax.lax.dynamic_update_slice(x, (_block(x, row, j, size) + block)[None], (row, 0, j * size, 0))
