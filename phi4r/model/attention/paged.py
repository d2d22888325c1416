"""Attention of new tokens to a paged cache: the pages, some at a time, and then the columns, by online softmax.

The pages of all sequences form one list, which a loop goes through in blocks, whoever they belong to. So time and
memory follow the tokens that sequences have together and not the longest of them, and no program depends on lengths.
The loop gathers the pages of a block, so it reads them twice and writes them once; on a GPU or a TPU kernels read the
pages where they lie (`paged_triton`, `paged_mosaic`), for the few queries of a decode step.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from phi4r.model.attention import paged_mosaic, paged_triton
from phi4r.model.attention.dense import MASKED
from phi4r.model.config import Attention
from phi4r.model.int8 import Int8Matrix, numbers_of
from phi4r.sharding import device_in_use, fitted_spec
from phi4r.typing import Array, Float, Int, typechecked

QUERY_AXES = ("batch", None, "kv_heads", "queries", "head_dim")
KEY_AXES = ("batch", "kv_heads", None, "head_dim")
LARGEST_BLOCK = 256  # pages gathered at a time
MOST_QUERIES = 64  # of a KV head and a sequence, for which a kernel reads the pages: more are a part of a prompt

Kernel = Literal["triton", "mosaic"]


class _State(NamedTuple):
    """The online softmax of every query."""

    largest: Array  # [N K Q T] float32: the largest score so far
    total: Array  # [N K Q T] float32: sum of the weights exp(score - largest)
    mixed: Array  # [N K Q T H] float32: sum of the weighted values


@typechecked
def attend_paged(
    query: Float[Array, "N T K Q H"],
    positions: Int[Array, "N T"],
    pages: tuple[Float[Array, "P K p H"] | Int8Matrix, Float[Array, "P K p H"] | Int8Matrix],
    table: Int[Array, "N M"],
    lengths: Int[Array, "N"],
    columns: tuple[Float[Array, "N K U H"] | Int8Matrix, Float[Array, "N K U H"] | Int8Matrix],
    column_positions: Int[Array, "N U"],
    *,
    window: int | None = None,
    backend: Attention = "auto",
) -> Float[Array, "N T K Q H"]:
    """softmax(q k^T / sqrt(H)) v over what each query sees of its own sequence; float32 softmax.

    Args:
      query: rotated queries.
      positions: of the queries; at least `lengths`, as all that lies in pages came before.
      pages: keys and values of the pool; in int8 with scales [P K p].
      table: the pages of each sequence, counted within its part of the batch.
      lengths: tokens in pages; token i has position i.
      columns: keys and values of the newest tokens, those of the queries included; in int8 with scales [N K U].
      column_positions: negative where a column holds no token.
      window: how many last positions a query sees, itself included; None for all.
      backend: of attention over whole rows; "triton" and "splash" have kernels for pages too, "auto" takes them where
        they run, and where a kernel cannot read the pages, or the queries are those of a long prompt, the loop does.
    """
    mesh = jax.sharding.get_abstract_mesh()
    arrays = (query, positions, *pages, table, lengths, *columns, column_positions)
    kernel = choose_kernel(backend, device_in_use().platform)
    if mesh.size <= 1:
        return _attend(*arrays, window=window, kernel=kernel)
    rows = ("batch", None)
    axes = (QUERY_AXES, rows, KEY_AXES, KEY_AXES, rows, ("batch",), KEY_AXES, KEY_AXES, rows)
    specs = tuple(
        jax.tree.map(lambda x, names=names: fitted_spec(mesh, names[: x.ndim], x.shape), array)
        for names, array in zip(axes, arrays, strict=True)
    )
    return jax.shard_map(
        lambda *local: _attend(*local, window=window, kernel=kernel),
        in_specs=specs,
        out_specs=specs[0],
        check_vma=False,
    )(*arrays)


def choose_kernel(backend: Attention, platform: str) -> Kernel | None:
    """Returns the kernel that reads the pages; None for the loop.

    Args:
      backend: of the config.
      platform: "cpu", "gpu" or "tpu".
    """
    if backend == "auto":
        return {"gpu": "triton", "tpu": "mosaic"}.get(platform)
    return {"triton": "triton", "splash": "mosaic"}.get(backend)


def _attend(query, positions, key_pages, value_pages, table, lengths, key, value, column_positions, *, window, kernel):
    """`attend_paged` on one device."""
    grouped = jnp.transpose(query, (0, 2, 3, 1, 4))  # batch axes first: the order in which products are made
    pages = (key_pages, value_pages)
    page_size, head_dim = numbers_of(key_pages).shape[2:]
    interpret = device_in_use().platform == "cpu"
    few = query.shape[1] * query.shape[3] <= MOST_QUERIES
    if kernel == "triton" and few and paged_triton.takes(page_size, head_dim):
        state = paged_triton.read_pages(grouped, positions, pages, table, lengths, window=window, interpret=interpret)
    elif kernel == "mosaic" and few and window is None and paged_mosaic.takes(page_size, head_dim, table.size):
        state = paged_mosaic.read_pages(grouped, pages, table, lengths, interpret=interpret)
    else:
        state = _loop_over_pages(grouped, positions, pages, table, lengths, window)
    state = _add(_State(*state), grouped, key, value, _seen(positions, column_positions, window))
    mixed = (state.mixed / jnp.maximum(state.total, 1e-37)[..., None]).astype(query.dtype)
    return jnp.transpose(mixed, (0, 3, 1, 2, 4))


def _seen(at: Array, places: Array, window: int | None) -> Array:
    """Returns [X T Y] bool: which of the places [X Y], negative for nothing, the positions [X T] see."""
    at, places = at[:, :, None], places[:, None]
    held = (places >= 0) & (places <= at)
    return held if window is None else held & (at - places < window)


def _loop_over_pages(grouped, positions, pages, table, lengths, window) -> _State:
    """Returns the online softmax of the queries [N K Q T H] over the pages of their sequences."""
    num_rows, page_size = table.shape[0], numbers_of(pages[0]).shape[2]
    last = jnp.cumsum((lengths + page_size - 1) // page_size)  # where the pages of each sequence end in the list
    block = jnp.arange(min(num_rows, LARGEST_BLOCK))

    def read_block(index: Array, state: _State) -> _State:
        entry = index * block.size + block
        before = entry[:, None] >= last[None]  # [X N]
        row = jnp.minimum(jnp.sum(before, axis=1), num_rows - 1)
        number = entry - jnp.max(jnp.where(before, last[None], 0), axis=1)  # of the page in its sequence
        page = jnp.take(table.reshape(-1), row * table.shape[1] + number, mode="clip")
        places = number[:, None] * page_size + jnp.arange(page_size)[None]
        places = jnp.where((entry < last[-1])[:, None] & (places < lengths[row][:, None]), places, -1)
        keys, values = jax.tree.map(lambda x: jnp.take(x, page, axis=0, mode="clip"), pages)
        owner = row[None] == jnp.arange(num_rows)[:, None]  # [N X]
        seen = _seen(jnp.take(positions, row, axis=0), places, window)
        return _add(state, grouped[row], keys, values, seen, row, owner)

    shape = grouped.shape[:-1]
    state = _State(jnp.full(shape, MASKED), jnp.zeros(shape), jnp.zeros(grouped.shape))
    return jax.lax.fori_loop(0, (last[-1] + block.size - 1) // block.size, read_block, state)


def _add(state: _State, query, keys, values, mask, row=None, owner=None) -> _State:
    """Returns the state with the keys [X K Y H] that `mask` [X T Y] shows to the queries [X K Q T H].

    Item x belongs to sequence row[x], which `owner` [N X] says once more; without them x is the sequence.
    """
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    scores = _scaled(product("xkqth,xkyh->xkqty", query, _numbers(keys, query.dtype)), keys)
    scores = jnp.where(mask[:, None, None], scores * query.shape[-1] ** -0.5, MASKED)
    largest = jnp.max(scores, axis=-1)
    if owner is not None:
        largest = jnp.max(jnp.where(owner[..., None, None, None], largest[None], MASKED), axis=1)
    largest = jnp.maximum(state.largest, largest)
    own = largest if row is None else largest[row]
    weights = jnp.where(mask[:, None, None], jnp.exp(scores - own[..., None]), 0.0)
    total = jnp.sum(weights, axis=-1)
    weights = _scaled(weights, values).astype(query.dtype)
    mixed = product("xkqty,xkyh->xkqth", weights, _numbers(values, query.dtype))
    if owner is not None:
        # A sum over items in full precision: on TPUs the default would round what is added up.
        join = functools.partial(jnp.tensordot, owner.astype(jnp.float32), axes=1, precision=jax.lax.Precision.HIGHEST)
        total, mixed = join(total), join(mixed)
    kept = jnp.exp(state.largest - largest)
    return _State(largest, state.total * kept + total, state.mixed * kept[..., None] + mixed)


def _numbers(tokens: Array | Int8Matrix, dtype: Any) -> Array:
    """Returns what keys or values [X K Y H] are multiplied as."""
    return tokens.values.astype(dtype) if isinstance(tokens, Int8Matrix) else tokens


def _scaled(products: Array, tokens: Array | Int8Matrix) -> Array:
    """Returns scores or weights [X K Q T Y] times the scales of their tokens, if they are in int8."""
    return products * tokens.scale[:, :, None, None] if isinstance(tokens, Int8Matrix) else products
