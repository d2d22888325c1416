"""The pages of a cache on TPUs: a Pallas Mosaic kernel that fetches each page once, while it computes with the last.

The pages of all sequences form one list. Step i of the kernel has page i of it, with all KV heads; which page that is,
and whose, it reads from small tables in scalar memory, by which the hardware fetches pages ahead. There are as many
steps as there are pages, so time follows the tokens that sequences have together.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from phi4r.model.attention.dense import MASKED
from phi4r.model.int8 import Int8Matrix, numbers_of
from phi4r.model.kv_cache import PAGE_KERNEL
from phi4r.typing import Array

LANES = 128  # the width of a vector register
ROWS = 16  # of a block of queries: a multiple of what a register holds in bfloat16
LARGEST_LIST = 1 << 16  # pages: two tables of them are 512 KiB, half of the scalar memory


def takes(page_size: int, head_dim: int, num_pages: int) -> bool:
    """Whether the kernel can read pages of so many tokens and numbers, so many of all sequences together."""
    return page_size % LANES == 0 and head_dim % LANES == 0 and num_pages <= LARGEST_LIST


def read_pages(
    query: Array,
    pages: tuple[Array | Int8Matrix, Array | Int8Matrix],
    table: Array,
    lengths: Array,
    *,
    interpret: bool,
) -> tuple[Array, Array, Array]:
    """Returns the online softmax of every query over the pages of its sequence.

    Args:
      query: [N K Q T H].
      pages: keys and values [P K p H], in int8 with scales [P K p].
      table: [N M].
      lengths: [N] tokens in pages.
      interpret: on a CPU, for tests.

    Returns:
      The largest score [N K Q T], the sum of weights [N K Q T] and the weighted values [N K Q T H], all float32.
    """
    num_rows, kv_heads, group, num_queries, head_dim = query.shape
    page_size = numbers_of(pages[0]).shape[2]
    queries = group * num_queries
    rows = -(-queries // ROWS) * ROWS
    block = query.reshape(num_rows, kv_heads, queries, head_dim)
    block = jnp.pad(block, ((0, 0), (0, 0), (0, rows - queries), (0, 0)))

    ends = jnp.cumsum((lengths + page_size - 1) // page_size)  # where the pages of each sequence end in the list
    entry = jnp.arange(table.size, dtype=jnp.int32)
    row = jnp.minimum(jnp.searchsorted(ends, entry, side="right"), num_rows - 1).astype(jnp.int32)
    begins = jnp.concatenate([jnp.zeros(1, ends.dtype), ends[:-1]])
    number = jnp.clip(entry - begins[row], 0, table.shape[1] - 1)
    page = table[row, number]

    def by_row(*shape):
        return pl.BlockSpec((1, kv_heads, rows, *shape), lambda i, row, *_: (row[i], 0, 0, *(0 for _ in shape)))

    pool = pl.BlockSpec((1, kv_heads, page_size, head_dim), lambda i, row, page, *_: (page[i], 0, 0, 0))
    scale = pl.BlockSpec((1, kv_heads, page_size), lambda i, row, page, *_: (page[i], 0, 0))
    pool_specs = Int8Matrix(pool, scale) if isinstance(pages[0], Int8Matrix) else pool
    statistic = jax.ShapeDtypeStruct((num_rows, kv_heads, rows, LANES), jnp.float32)
    top, total, mixed = pl.pallas_call(
        functools.partial(_kernel, page_size=page_size),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=4,
            grid=(ends[-1],),
            in_specs=[by_row(head_dim), pool_specs, pool_specs],
            out_specs=[by_row(LANES), by_row(LANES), by_row(head_dim)],
        ),
        out_shape=[statistic, statistic, jax.ShapeDtypeStruct(block.shape, jnp.float32)],
        interpret=interpret,
        name=PAGE_KERNEL,
    )(row, page, begins.astype(jnp.int32), lengths.astype(jnp.int32), block, *pages)
    held = (lengths > 0)[:, None, None]  # the kernel never comes to a sequence without pages
    largest = jnp.where(held, top[..., 0], MASKED)
    total, mixed = jnp.where(held, total[..., 0], 0.0), jnp.where(held[..., None], mixed, 0.0)
    return tuple(x[:, :, :queries].reshape(*query.shape[:4], *x.shape[3:]) for x in (largest, total, mixed))


def _kernel(row, page, begins, lengths, query, keys, values, top_out, total_out, mixed_out, *, page_size: int):
    """Adds one page to the online softmax of its sequence, which stays in fast memory until the next one's turn.

    Args are refs: the tables row and page [list], begins and lengths [N]; query [1 K rows H], keys and values
    [1 K p H], in int8 with scales [1 K p]; the results [1 K rows 128], the same in all lanes, and [1 K rows H].
    """
    del page
    entry = pl.program_id(0)
    sequence = row[entry]
    number = entry - begins[sequence]

    @pl.when(number == 0)
    def _():
        top_out[...] = jnp.full_like(top_out, MASKED)
        total_out[...] = jnp.zeros_like(total_out)
        mixed_out[...] = jnp.zeros_like(mixed_out)

    shape = (query.shape[2], page_size)
    seen = jax.lax.broadcasted_iota(jnp.int32, shape, 1) < lengths[sequence] - number * page_size
    for head in range(query.shape[1]):
        q = query[0, head]
        k, key_scale = _head(keys, head, q.dtype)
        scores = _product(q, k, contract=1) * q.shape[1] ** -0.5
        if key_scale is not None:
            scores *= key_scale
        scores = jnp.where(seen, scores, MASKED)
        top = top_out[0, head]  # the same in all lanes
        new_top = jnp.maximum(top, jnp.max(scores, axis=1, keepdims=True))
        weights = jnp.where(seen, jnp.exp(scores - new_top[:, :1]), 0.0)
        shrink = jnp.exp(top - new_top)
        total_out[0, head] = total_out[0, head] * shrink + jnp.sum(weights, axis=1, keepdims=True)
        v, value_scale = _head(values, head, q.dtype)
        if value_scale is not None:
            weights *= value_scale
        mixed_out[0, head] = mixed_out[0, head] * shrink[:, :1] + _product(weights.astype(v.dtype), v, contract=0)
        top_out[0, head] = new_top


def _head(pages, head: int, dtype) -> tuple[Array, Array | None]:
    """Returns one head [p H] of a page in the dtype of the queries, and its scales [1 p] if it is in int8."""
    if isinstance(pages, Int8Matrix):
        return pages.values[0, head].astype(jnp.float32).astype(dtype), pages.scale[0, head][None]
    return pages[0, head], None


def _product(a: Array, b: Array, *, contract: int) -> Array:
    """Returns a product over the last axis of `a` and an axis of `b`; float32 inputs are not rounded to bfloat16."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dimensions = (((1,), (contract,)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision=precision, preferred_element_type=jnp.float32)
