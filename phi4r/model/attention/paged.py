"""Attention of new tokens to a paged cache: the columns, and then the pages, some at a time, by online softmax.

The pages of all sequences form one list, which a loop goes through in blocks, whoever they belong to. So time and
memory follow the tokens that sequences have together and not the longest of them, and no program depends on lengths.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from phi4r.model.attention.dense import MASKED
from phi4r.model.int8 import Int8Matrix
from phi4r.sharding import fitted_spec
from phi4r.typing import Array, Float, Int, typechecked

QUERY_AXES = ("batch", None, "kv_heads", "queries", "head_dim")
KEY_AXES = ("batch", "kv_heads", None, "head_dim")
LARGEST_BLOCK = 256  # pages gathered at a time


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
    """
    mesh = jax.sharding.get_abstract_mesh()
    arrays = (query, positions, *pages, table, lengths, *columns, column_positions)
    if mesh.size <= 1:
        return _attend(*arrays, window=window)
    rows = ("batch", None)
    axes = (QUERY_AXES, rows, KEY_AXES, KEY_AXES, rows, ("batch",), KEY_AXES, KEY_AXES, rows)
    specs = tuple(
        jax.tree.map(lambda x, names=names: fitted_spec(mesh, names[: x.ndim], x.shape), array)
        for names, array in zip(axes, arrays, strict=True)
    )
    return jax.shard_map(
        lambda *local: _attend(*local, window=window), in_specs=specs, out_specs=specs[0], check_vma=False
    )(*arrays)


def _attend(query, positions, key_pages, value_pages, table, lengths, key, value, column_positions, *, window):
    """`attend_paged` on one device."""
    num_rows, page_size = table.shape[0], jax.tree.leaves(key_pages)[0].shape[2]
    grouped = jnp.transpose(query, (0, 2, 3, 1, 4))  # batch axes first: the order in which products are made
    last = jnp.cumsum((lengths + page_size - 1) // page_size)  # where the pages of each sequence end in the list
    block = jnp.arange(min(num_rows, LARGEST_BLOCK))

    def seen(at: Array, places: Array) -> Array:  # [X T] and [X Y], negative for nothing -> [X T Y]
        at, places = at[:, :, None], places[:, None]
        held = (places >= 0) & (places <= at)
        return held if window is None else held & (at - places < window)

    def read_block(index: Array, state: _State) -> _State:
        entry = index * block.size + block
        before = entry[:, None] >= last[None]  # [X N]
        row = jnp.minimum(jnp.sum(before, axis=1), num_rows - 1)
        number = entry - jnp.max(jnp.where(before, last[None], 0), axis=1)  # of the page in its sequence
        page = jnp.take(table.reshape(-1), row * table.shape[1] + number, mode="clip")
        places = number[:, None] * page_size + jnp.arange(page_size)[None]
        places = jnp.where((entry < last[-1])[:, None] & (places < lengths[row][:, None]), places, -1)
        keys, values = jax.tree.map(lambda x: jnp.take(x, page, axis=0, mode="clip"), (key_pages, value_pages))
        owner = row[None] == jnp.arange(num_rows)[:, None]  # [N X]
        return _add(state, grouped[row], keys, values, seen(jnp.take(positions, row, axis=0), places), row, owner)

    shape = grouped.shape[:-1]
    state = _State(jnp.full(shape, MASKED), jnp.zeros(shape), jnp.zeros(grouped.shape))
    state = _add(state, grouped, key, value, seen(positions, column_positions))
    state = jax.lax.fori_loop(0, (last[-1] + block.size - 1) // block.size, read_block, state)
    mixed = (state.mixed / jnp.maximum(state.total, 1e-37)[..., None]).astype(query.dtype)
    return jnp.transpose(mixed, (0, 3, 1, 2, 4))


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
