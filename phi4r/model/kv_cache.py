"""The paged key/value cache: pages that a program reads, and the few columns that it writes.

Tokens of a sequence lie in pages of a common pool, so memory follows the lengths that sequences really have, and the
samples of a prompt share its pages. A program that runs tokens through the model leaves the pages alone. It writes keys
and values to a small buffer, a column for each token, which attention reads beside the pages; at its end `write_pages`
moves the columns into the pages at once. So no loop carries the pool, and nothing can copy it.

A cache in int8 rounds keys and values when they are written to a column, and has the same numbers in pages. So what a
token sees does not depend on where a burst, a chunk of its prompt or an eviction ended, and the samples of one seed are
the same ones in any slots, as with floats; but a number halfway between two steps goes to either, as it is computed.
"""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from phi4r.model.config import ModelConfig
from phi4r.model.int8 import DecodeCache, Int8Matrix, quantize
from phi4r.sharding import constrain, fitted_spec
from phi4r.typing import Array

PAGE_AXES = ("batch", "kv_heads", None, "head_dim")  # of [P K p H]; each part of the batch has a pool of its own
RECENT_AXES = ("batch", "kv_heads", None, "head_dim")  # of [N K U H]
PAGE_KERNEL = "attention_pages"  # how kernels that read pages are called in compiled programs
NO_TOKEN = -1  # the position of a column that holds nothing


@flax.struct.dataclass
class Pages:
    """The pool: P pages of p tokens in every layer. Page 0 of each part of the batch takes what belongs nowhere."""

    keys: tuple[Array | Int8Matrix, ...]  # L arrays [P K p H], rotated; in int8 with scales [P K p]
    values: tuple[Array | Int8Matrix, ...]  # L arrays [P K p H]

    @property
    def page_size(self) -> int:
        """p, tokens of a page."""
        return jax.tree.leaves(self.keys)[0].shape[2]


@flax.struct.dataclass
class KVCache:
    """What N sequences have seen: `lengths` tokens in pages, and those whose columns have a position."""

    pages: Pages  # only read
    table: Array  # [N M] int32: the page of tokens j*p .. j*p + p - 1, counted within this part of the batch
    lengths: Array  # [N] int32: tokens in pages
    keys: tuple[Array | Int8Matrix, ...]  # L arrays [N K U H], of the columns; as in the pages
    values: tuple[Array | Int8Matrix, ...]  # L arrays [N K U H]
    positions: Array  # [N U] int32, NO_TOKEN where a column is empty
    column: Array  # [] or [N] int32: where the next token goes, the same for all sequences or each one's own
    longest: int = flax.struct.field(pytree_node=False)  # tokens that a sequence may come to have


def empty_pages(config: ModelConfig, *, num_pages: int, page_size: int, cache: DecodeCache = "float") -> Pages:
    """Returns a pool without tokens.

    Args:
      config: of the model.
      num_pages: in all parts of the batch together.
      page_size: tokens of a page.
      cache: "float" for the dtype of activations, "int8" for a byte and a float32 scale for each token and head.
    """
    shape = (num_pages, config.num_kv_heads, page_size, config.head_dim)

    def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
        return constrain(jnp.zeros(shape, dtype), *PAGE_AXES[: len(shape)])

    def empty() -> Array | Int8Matrix:
        if cache == "int8":
            return Int8Matrix(zeros(shape, jnp.int8), zeros(shape[:-1], jnp.float32))
        return zeros(shape, config.dtype)

    keys, values = (tuple(empty() for _ in range(config.num_layers)) for _ in range(2))
    return Pages(keys, values)


def open_cache(pages: Pages, table: Array, lengths: Array, *, columns: int, longest: int) -> KVCache:
    """Returns the cache of N sequences with room for `columns` more tokens of each."""

    def empty(pool: Array) -> Array:
        shape = (table.shape[0], pool.shape[1], columns, *pool.shape[3:])
        return constrain(jnp.zeros(shape, pool.dtype), *RECENT_AXES[: pool.ndim])

    return KVCache(
        pages=pages,
        table=table,
        lengths=lengths,
        keys=jax.tree.map(empty, pages.keys),
        values=jax.tree.map(empty, pages.values),
        positions=jnp.full((table.shape[0], columns), NO_TOKEN, jnp.int32),
        column=jnp.zeros((), jnp.int32),
        longest=longest,
    )


def write_columns(held: Array | Int8Matrix, new: Array, column: Array) -> Array | Int8Matrix:
    """Returns the columns [N K U H] of a layer with `new` [N K T H] at `column`, rounded if they are in int8."""
    if isinstance(held, Int8Matrix):
        new = quantize(new, (3,))
    return jax.tree.map(lambda held, new: put_columns(held, new, column, axis=2), held, new)


def put_columns(held: Array, new: Array, column: Array, *, axis: int) -> Array:
    """Returns `held` with the T columns of `new` at `column`, which is one number or [N], along `axis`."""
    if column.ndim == 0:
        return jax.lax.dynamic_update_slice_in_dim(held, new, column, axis)
    # Chosen and not scattered: the buffer is small, and a scatter is a loop or turns the buffer on some devices.
    offset = jnp.arange(held.shape[axis])[None] - column[:, None]  # [N U]
    apart = tuple(i for i in range(1, held.ndim) if i != axis)
    index, inside = (
        jnp.expand_dims(x, apart)
        for x in (jnp.clip(offset, 0, new.shape[axis] - 1), (offset >= 0) & (offset < new.shape[axis]))
    )
    return jnp.where(inside, jnp.take_along_axis(new, index, axis=axis), held)


def write_pages(cache: KVCache) -> Pages:
    """Returns the pages with the tokens of all columns in them; donate the pages, and they are written in place."""
    size = cache.pages.page_size
    held = cache.positions >= 0
    places = jnp.where(held, cache.positions, 0)
    page = jnp.where(held, jnp.take_along_axis(cache.table, places // size, axis=1), 0)
    write = _locally(_scatter_columns, (PAGE_AXES, ("batch", None), ("batch", None), RECENT_AXES))
    offset = places % size
    columns = Pages(cache.keys, cache.values)
    return jax.tree.map(lambda pool, columns: write(pool, page, offset, columns), cache.pages, columns)


def _scatter_columns(pool: Array, page: Array, offset: Array, columns: Array) -> Array:
    """Returns a pool with columns [N K U H], or [N K U] of their scales, at `offset` [N U] of `page` [N U].

    Heads are an index too: around an axis without one, the compiler for TPUs would turn the whole pool, and back.
    It does so with the scales, of which an update is one number: a copy of 3% of the pool for each program.
    """
    heads = jnp.arange(pool.shape[1])[None, :, None]
    return pool.at[page[:, None], heads, offset[:, None]].set(columns)


def copy_pages(pages: Pages, sources: Array, targets: Array) -> Pages:
    """Returns the pages with `targets` [A] holding what `sources` [A] hold; page 0 onto itself does nothing."""
    copy = _locally(
        lambda pool, sources, targets: pool.at[targets].set(pool[sources]), (PAGE_AXES, ("batch",), ("batch",))
    )
    return jax.tree.map(lambda pool: copy(pool, sources, targets), pages)


def _locally(function, axes):
    """Returns `function` on the parts of each device: pages are counted within a part of the batch.

    The result lies as the first argument does.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.size <= 1:
        return function

    @functools.wraps(function)
    def on_mesh(*arrays: Array) -> Array:
        specs: tuple[PartitionSpec, ...] = tuple(
            fitted_spec(mesh, names[: x.ndim], x.shape) for names, x in zip(axes, arrays, strict=True)
        )
        return jax.shard_map(function, in_specs=specs, out_specs=specs[0], check_vma=False)(*arrays)

    return on_mesh
