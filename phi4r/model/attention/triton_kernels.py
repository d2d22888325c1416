"""The Pallas Triton kernels of flash attention: forward, dQ, and dK with dV (FlashAttention-2, arXiv:2307.08691).

A program of the first two has a block of queries of one head and loops over the blocks of keys that it may see; one of
the third has a block of keys of one KV head and loops over the query heads of it and the blocks of queries that may see
it. Scores are to base 2, because exp2 is the instruction that the hardware has.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from phi4r.model.attention.mask import Tokens
from phi4r.typing import Array

NEVER = -1  # segment of a padding key; that of a padding query is 0, so that the two never meet
LOWEST = -1e30  # below every score, and finite: a query that sees nothing gets weights 0 and not NaN


class Tile(NamedTuple):
    """What one program of a kernel works on at a time."""

    queries: int  # queries in a block, a power of two from 16
    keys: int  # keys in a block, a power of two from 16
    warps: int
    stages: int  # depth of the software pipeline that loads blocks


class Tiles(NamedTuple):
    """One value for each kernel: `Tile`s, or the block ranges that belong to them."""

    forward: Tile | Array
    dq: Tile | Array
    dkv: Tile | Array


class Static(NamedTuple):
    """What a kernel knows when it is compiled."""

    tiles: Tiles
    head_dim: int
    window: int | None
    interpret: bool


def block_width(head_dim: int) -> int:
    """Returns the width of blocks in H: a power of two, and at least 16, as matrix units want it."""
    return max(16, pl.next_power_of_2(head_dim))


def forward_kernel(ranges, query, key, value, queries: Tokens, keys: Tokens, out, lse, *, static: Static):
    """Writes out [queries, width] and lse [queries], to base 2, of a block of queries; algorithm 1.

    Args are refs: `ranges` [4] as in `triton_ranges`, query [queries, width], key and value [S, width], Tokens of
    queries [queries] and of keys [S].
    """
    q, tile = load(query, static.head_dim), static.tiles.forward
    where = Tokens(*(ref[...][:, None] for ref in queries))

    def step(block, carry, masked: bool):
        mixed, top, total = carry
        span = pl.ds(block * tile.keys, tile.keys)
        scores = dot(q, load(key.at[span, :], static.head_dim), trans_b=True)
        if masked:
            seen = _visible(where, Tokens(*(ref[span][None, :] for ref in keys)), static)
            scores = jnp.where(seen, scores, -jnp.inf)
        new_top = jnp.maximum(top, jnp.max(scores, axis=1) * _scale(static))
        weights = jnp.exp2(scores * _scale(static) - new_top[:, None])  # scaled here: one fused multiply-add
        shrink = jnp.exp2(top - new_top)
        v = load(value.at[span, :], static.head_dim)
        mixed = mixed * shrink[:, None] + dot(weights.astype(v.dtype), v)
        return mixed, new_top, total * shrink + jnp.sum(weights, axis=1)

    start = (jnp.zeros(q.shape, jnp.float32), jnp.full(q.shape[:1], LOWEST), jnp.zeros(q.shape[:1], jnp.float32))
    mixed, top, total = _over_blocks(ranges, step, start)
    total = jnp.where(total > 0, total, 1.0)
    store(out, mixed / total[:, None], static.head_dim)
    lse[...] = top + jnp.log2(total)


def dq_kernel(ranges, query, key, value, queries, keys, out_grad, lse, delta, query_grad, *, static: Static):
    """Writes dQ [queries, width] of a block of queries; refs as in `forward_kernel`, delta = sum(out * out_grad)."""
    q, d_out, tile = load(query, static.head_dim), load(out_grad, static.head_dim), static.tiles.dq
    where, lse, delta = Tokens(*(ref[...][:, None] for ref in queries)), lse[...][:, None], delta[...][:, None]

    def step(block, dq, masked: bool):
        span = pl.ds(block * tile.keys, tile.keys)
        k = load(key.at[span, :], static.head_dim)
        weights = jnp.exp2(dot(q, k, trans_b=True) * _scale(static) - lse)
        if masked:
            seen = _visible(where, Tokens(*(ref[span][None, :] for ref in keys)), static)
            weights = jnp.where(seen, weights, 0.0)
        d_scores = weights * (dot(d_out, load(value.at[span, :], static.head_dim), trans_b=True) - delta)
        return dq + dot(d_scores.astype(k.dtype), k)

    dq = _over_blocks(ranges, step, jnp.zeros(q.shape, jnp.float32))
    store(query_grad, dq * static.head_dim**-0.5, static.head_dim)


def dkv_kernel(ranges, query, key, value, queries, keys, out_grad, lse, delta, key_grad, value_grad, *, static: Static):
    """Writes dK and dV [keys, width] of a block of keys, summed over the Q query heads; algorithm 2.

    Args are refs: query and out_grad [T, Q, width], key and value [keys, width], Tokens of queries [T] and of keys
    [keys], lse and delta [Q, T].
    """
    k, v, tile = load(key, static.head_dim), load(value, static.head_dim), static.tiles.dkv
    where = Tokens(*(ref[...][:, None] for ref in keys))

    def step(head, block, carry, masked: bool):  # scores are transposed, [keys, queries]
        dk, dv = carry
        span = pl.ds(block * tile.queries, tile.queries)
        q, d_out = load(query.at[span, head, :], static.head_dim), load(out_grad.at[span, head, :], static.head_dim)
        weights = jnp.exp2(dot(k, q, trans_b=True) * _scale(static) - lse[head, span][None, :])
        if masked:
            seen = _visible(Tokens(*(ref[span][None, :] for ref in queries)), where, static)
            weights = jnp.where(seen, weights, 0.0)
        dv += dot(weights.astype(d_out.dtype), d_out)
        d_scores = weights * (dot(v, d_out, trans_b=True) - delta[head, span][None, :])
        return dk + dot(d_scores.astype(q.dtype), q), dv

    def over_head(head, carry):
        return _over_blocks(ranges, functools.partial(step, head), carry)

    dk, dv = jax.lax.fori_loop(0, query.shape[1], over_head, (jnp.zeros(k.shape, jnp.float32),) * 2)
    store(key_grad, dk * static.head_dim**-0.5, static.head_dim)
    store(value_grad, dv, static.head_dim)


def _over_blocks(ranges, step, carry):
    """Runs `step(block, carry, masked)` over the blocks of `ranges`; two loops, the second for blocks seen whole."""
    begin, full_begin, full_end, end = (ranges[i] for i in range(4))
    full = full_end - full_begin

    def masked_step(i, carry):
        return step(i + jnp.where(i < full_begin, 0, full), carry, True)

    carry = jax.lax.fori_loop(begin, end - full, masked_step, carry)
    return jax.lax.fori_loop(full_begin, full_end, lambda i, carry: step(i, carry, False), carry)


def _visible(queries: Tokens, keys: Tokens, static: Static) -> Array:
    """The rule of `phi4r.model.attention.mask.visible` for a block, where padding keys are of segment NEVER."""
    mask = (queries.segment_ids == keys.segment_ids) & (keys.positions <= queries.positions)
    if static.window is not None:
        mask &= keys.positions > queries.positions - static.window
    return mask


def _scale(static: Static) -> float:
    return static.head_dim**-0.5 * math.log2(math.e)


def dot(a: Array, b: Array, trans_b: bool = False) -> Array:
    """Returns a product with float32 accumulation; float32 inputs are not rounded to tf32."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return plgpu.dot(a, b, trans_b=trans_b, precision=precision)


def load(ref, head_dim: int) -> Array:
    """Returns a block [n, width] of an array whose last axis, H, may be narrower than the block."""
    mask = _head_mask(head_dim)
    return ref[...] if mask is None else plgpu.load(ref, mask=mask, other=0)


def store(ref, value: Array, head_dim: int) -> None:
    """Writes a block [n, width] to an array whose last axis, H, may be narrower than the block."""
    plgpu.store(ref, value.astype(ref.dtype), mask=_head_mask(head_dim))


def _head_mask(head_dim: int) -> Array | None:
    """Returns [1, width] bool: which columns of a block are numbers of the head; None for all."""
    width = block_width(head_dim)
    return None if width == head_dim else (jnp.arange(width) < head_dim)[None, :]
