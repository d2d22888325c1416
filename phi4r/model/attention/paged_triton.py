"""The pages of a cache on NVIDIA GPUs: a Pallas Triton kernel that reads each page once, where it lies.

A program has the queries of one KV head of a sequence and walks through a share of its pages (flash decoding): one
sequence would otherwise keep a few multiprocessors busy. The shares are joined outside, as is what the columns add.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from phi4r.model.attention.dense import MASKED
from phi4r.model.attention.triton_kernels import LOWEST, block_width, dot, load, store
from phi4r.model.int8 import Int8Matrix, numbers_of
from phi4r.model.kv_cache import PAGE_KERNEL
from phi4r.typing import Array

MAX_HEAD_DIM = 128
SMALLEST_ROWS = 16  # of a block that matrix units multiply
PROGRAMS = 528  # four for each of the 132 multiprocessors of an H100
MOST_SHARES = 32


class Static(NamedTuple):
    """What the kernel knows when it is compiled."""

    head_dim: int
    num_shares: int
    window: int | None


def takes(page_size: int, head_dim: int) -> bool:
    """Whether the kernel can read pages of so many tokens and numbers: blocks are powers of two."""
    return page_size >= SMALLEST_ROWS and page_size & (page_size - 1) == 0 and head_dim <= MAX_HEAD_DIM


def read_pages(
    query: Array,
    positions: Array,
    pages: tuple[Array | Int8Matrix, Array | Int8Matrix],
    table: Array,
    lengths: Array,
    *,
    window: int | None,
    interpret: bool,
) -> tuple[Array, Array, Array]:
    """Returns the online softmax of every query over the pages of its sequence.

    Args:
      query: [N K Q T H].
      positions: [N T] of the queries.
      pages: keys and values [P K p H], in int8 with scales [P K p].
      table: [N M].
      lengths: [N] tokens in pages.
      window: how many last positions a query sees, itself included; None for all.
      interpret: on a CPU, for tests.

    Returns:
      The largest score [N K Q T], the sum of weights [N K Q T] and the weighted values [N K Q T H], all float32.
    """
    num_rows, kv_heads, group, num_queries, head_dim = query.shape
    queries = group * num_queries
    rows = max(SMALLEST_ROWS, pl.next_power_of_2(queries))
    width = block_width(head_dim)
    static = Static(head_dim, num_shares(num_rows * kv_heads), window)
    more = rows - queries
    block = jnp.pad(query.reshape(num_rows, kv_heads, queries, head_dim), ((0, 0), (0, 0), (0, more), (0, 0)))
    places = jnp.pad(jnp.tile(positions, (1, group)), ((0, 0), (0, more)))

    def spec(shape, index):  # index: of share, KV head, row
        return pl.BlockSpec(shape, lambda s, k, n: index(s, k, n))

    keys, values = pages
    num_pages, _, page_size, _ = numbers_of(keys).shape
    pool = spec((num_pages, None, page_size, width), lambda s, k, n: (0, k, 0, 0))
    scale = spec((num_pages, None, page_size), lambda s, k, n: (0, k, 0))
    pool_specs = Int8Matrix(pool, scale) if isinstance(keys, Int8Matrix) else pool
    statistic = spec((None, None, None, rows), lambda s, k, n: (s, n, k, 0))
    shape = (static.num_shares, num_rows, kv_heads, rows)
    top, total, mixed = pl.pallas_call(
        functools.partial(_kernel, static=static),
        grid=(static.num_shares, kv_heads, num_rows),
        in_specs=[
            spec((None, table.shape[1]), lambda s, k, n: (n, 0)),
            spec((1,), lambda s, k, n: (n,)),
            spec((None, rows), lambda s, k, n: (n, 0)),
            spec((None, None, rows, width), lambda s, k, n: (n, k, 0, 0)),
            pool_specs,
            pool_specs,
        ],
        out_specs=[statistic, statistic, spec((None, None, None, rows, width), lambda s, k, n: (s, n, k, 0, 0))],
        out_shape=[
            jax.ShapeDtypeStruct(shape, jnp.float32),
            jax.ShapeDtypeStruct(shape, jnp.float32),
            jax.ShapeDtypeStruct((*shape, head_dim), jnp.float32),
        ],
        compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=3),
        interpret=interpret,
        name=PAGE_KERNEL,
    )(table, lengths, places, block, keys, values)
    largest = jnp.max(top, axis=0)
    kept = jnp.exp2(top - largest[None])
    total, mixed = jnp.sum(total * kept, axis=0), jnp.sum(mixed * kept[..., None], axis=0)
    largest = jnp.where(total > 0, largest * math.log(2), MASKED)
    return tuple(x[:, :, :queries].reshape(*query.shape[:4], *x.shape[3:]) for x in (largest, total, mixed))


def num_shares(num_programs: int) -> int:
    """Returns into how many shares the pages of a sequence are cut: enough to fill a GPU, and no more."""
    return min(MOST_SHARES, pl.next_power_of_2(-(-PROGRAMS // num_programs)))


def _kernel(table, lengths, positions, query, keys, values, top_out, total_out, mixed_out, *, static: Static):
    """Writes the online softmax, to base 2, of one share of the pages of a sequence for one KV head.

    Args are refs: table [M], lengths [1], positions [rows], query [rows, width], keys and values [P, p, width], in int8
    with scales [P, p].
    """
    page_size = numbers_of(keys).shape[1]
    length = lengths[0]
    num_pages = (length + page_size - 1) // page_size
    share = (num_pages + static.num_shares - 1) // static.num_shares
    begin = pl.program_id(0) * share
    q, at = load(query, static.head_dim), positions[...][:, None]
    scale = static.head_dim**-0.5 * math.log2(math.e)

    def step(number, carry):
        top, total, mixed = carry
        page = table[number]
        k, key_scale = _page(keys, page, q.dtype, static)
        scores = dot(q, k, trans_b=True) * scale
        if key_scale is not None:
            scores *= key_scale[None]
        place = number * page_size + jnp.arange(page_size)[None]
        seen = jnp.broadcast_to(place < length, scores.shape)
        if static.window is not None:
            seen &= place > at - static.window
        scores = jnp.where(seen, scores, -jnp.inf)
        new_top = jnp.maximum(top, jnp.max(scores, axis=1))
        weights = jnp.exp2(scores - new_top[:, None])
        shrink = jnp.exp2(top - new_top)
        v, value_scale = _page(values, page, q.dtype, static)
        total = total * shrink + jnp.sum(weights, axis=1)
        if value_scale is not None:
            weights *= value_scale[None]
        return new_top, total, mixed * shrink[:, None] + dot(weights.astype(v.dtype), v)

    start = (jnp.full(q.shape[:1], LOWEST), jnp.zeros(q.shape[:1], jnp.float32), jnp.zeros(q.shape, jnp.float32))
    end = jnp.minimum(begin + share, num_pages)
    top_out[...], total_out[...], mixed = jax.lax.fori_loop(begin, end, step, start)
    store(mixed_out, mixed, static.head_dim)


def _page(pool, page: Array, dtype: Any, static: Static) -> tuple[Array, Array | None]:
    """Returns one page [p, width] in the dtype of the queries, and its scales [p] if it is in int8."""
    if isinstance(pool, Int8Matrix):
        return load(pool.values.at[page], static.head_dim).astype(dtype), pool.scale[page]
    return load(pool.at[page], static.head_dim), None
