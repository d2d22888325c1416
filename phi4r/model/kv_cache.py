"""The paged key/value cache: pages that a program reads, and the few columns that it writes.

Tokens of a sequence lie in pages of a common pool, so memory follows the lengths that sequences really have, and the
samples of a prompt share its pages. A program that runs tokens through the model leaves the pages alone. It writes keys
and values to a small buffer, a column for each token, which attention reads beside the pages; at its end `write_pages`
moves the columns into the pages at once. So no loop carries the pool, and nothing can copy it.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from phi4r.model.config import ModelConfig
from phi4r.sharding import constrain, fitted_spec
from phi4r.typing import Array

PAGE_AXES = ("batch", "kv_heads", None, "head_dim")  # of [P K p H]; each part of the batch has a pool of its own
RECENT_AXES = ("batch", "kv_heads", None, "head_dim")  # of [N K U H]
NO_TOKEN = -1  # the position of a column that holds nothing


@flax.struct.dataclass
class Pages:
    """The pool: P pages of p tokens in every layer. Page 0 of each part of the batch takes what belongs nowhere."""

    keys: tuple[Array, ...]  # L arrays [P K p H], rotated
    values: tuple[Array, ...]  # L arrays [P K p H]

    @property
    def page_size(self) -> int:
        """p, tokens of a page."""
        return self.keys[0].shape[2]


@flax.struct.dataclass
class KVCache:
    """What N sequences have seen: `lengths` tokens in pages, and those whose columns have a position."""

    pages: Pages  # only read
    table: Array  # [N M] int32: the page of tokens j*p .. j*p + p - 1, counted within this part of the batch
    lengths: Array  # [N] int32: tokens in pages
    keys: tuple[Array, ...]  # L arrays [N K U H], of the columns
    values: tuple[Array, ...]  # L arrays [N K U H]
    positions: Array  # [N U] int32, NO_TOKEN where a column is empty
    column: Array  # [] int32: where the next token goes, the same for all sequences
    longest: int = flax.struct.field(pytree_node=False)  # tokens that a sequence may come to have


def empty_pages(config: ModelConfig, *, num_pages: int, page_size: int) -> Pages:
    """Returns a pool without tokens, of `num_pages` pages in all parts of the batch together."""
    shape = (num_pages, config.num_kv_heads, page_size, config.head_dim)

    def empty() -> tuple[Array, ...]:
        zeros = (jnp.zeros(shape, config.dtype) for _ in range(config.num_layers))
        return tuple(constrain(x, *PAGE_AXES) for x in zeros)

    return Pages(empty(), empty())


def open_cache(pages: Pages, table: Array, lengths: Array, *, columns: int, longest: int) -> KVCache:
    """Returns the cache of N sequences with room for `columns` more tokens of each."""
    _, num_heads, _, head_dim = pages.keys[0].shape
    shape = (table.shape[0], num_heads, columns, head_dim)

    def empty(like: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(constrain(jnp.zeros(shape, x.dtype), *RECENT_AXES) for x in like)

    return KVCache(
        pages=pages,
        table=table,
        lengths=lengths,
        keys=empty(pages.keys),
        values=empty(pages.values),
        positions=jnp.full((table.shape[0], columns), NO_TOKEN, jnp.int32),
        column=jnp.zeros((), jnp.int32),
        longest=longest,
    )


def write_pages(cache: KVCache) -> Pages:
    """Returns the pages with the tokens of all columns in them; donate the pages, and they are written in place."""
    size = cache.pages.page_size
    held = cache.positions >= 0
    places = jnp.where(held, cache.positions, 0)
    page = jnp.where(held, jnp.take_along_axis(cache.table, places // size, axis=1), 0)
    write = _locally(_write_columns, (PAGE_AXES, ("batch", None), ("batch", None), RECENT_AXES))
    offset = places % size
    pairs = (zip(cache.pages.keys, cache.keys, strict=True), zip(cache.pages.values, cache.values, strict=True))
    return Pages(*(tuple(write(pool, page, offset, columns) for pool, columns in pair) for pair in pairs))


def _write_columns(pool: Array, page: Array, offset: Array, columns: Array) -> Array:
    """Returns a pool with columns [N K U H] at `offset` [N U] of `page` [N U].

    Heads are an index too: around an axis without one, the compiler for TPUs would turn the whole pool, and back.
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
            fitted_spec(mesh, names, x.shape) for names, x in zip(axes, arrays, strict=True)
        )
        return jax.shard_map(function, in_specs=specs, out_specs=specs[0], check_vma=False)(*arrays)

    return on_mesh
