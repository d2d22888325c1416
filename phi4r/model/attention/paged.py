"""Attention of new tokens to a paged cache: the pages one after the other, then the columns, by online softmax.

Only one page of each sequence is gathered at a time, and the loop ends at the longest sequence there is, so time and
memory follow real lengths, and programs do not depend on them.
"""

import jax
import jax.numpy as jnp

from phi4r.model.attention.dense import MASKED
from phi4r.sharding import fitted_spec
from phi4r.typing import Array, Float, Int, typechecked

QUERY_AXES = ("batch", None, "kv_heads", "queries", "head_dim")
KEY_AXES = ("batch", "kv_heads", None, "head_dim")


@typechecked
def attend_paged(
    query: Float[Array, "N T K Q H"],
    positions: Int[Array, "N T"],
    pages: tuple[Float[Array, "P K p H"], Float[Array, "P K p H"]],
    table: Int[Array, "N M"],
    lengths: Int[Array, "N"],
    columns: tuple[Float[Array, "N K U H"], Float[Array, "N K U H"]],
    column_positions: Int[Array, "N U"],
    *,
    window: int | None = None,
) -> Float[Array, "N T K Q H"]:
    """softmax(q k^T / sqrt(H)) v over what each query sees of its own sequence; float32 softmax.

    Args:
      query: rotated queries.
      positions: of the queries; at least `lengths`, as all that lies in pages came before.
      pages: keys and values of the pool.
      table: the pages of each sequence, counted within its part of the batch.
      lengths: tokens in pages; token i has position i.
      columns: keys and values of the newest tokens, those of the queries included.
      column_positions: negative where a column holds no token.
      window: how many last positions a query sees, itself included; None for all.
    """
    mesh = jax.sharding.get_abstract_mesh()
    arrays = (query, positions, *pages, table, lengths, *columns, column_positions)
    if mesh.size <= 1:
        return _attend(*arrays, window=window)
    rows = ("batch", None)
    axes = (QUERY_AXES, rows, KEY_AXES, KEY_AXES, rows, ("batch",), KEY_AXES, KEY_AXES, rows)
    specs = tuple(fitted_spec(mesh, names, x.shape) for names, x in zip(axes, arrays, strict=True))
    return jax.shard_map(
        lambda *local: _attend(*local, window=window), in_specs=specs, out_specs=specs[0], check_vma=False
    )(*arrays)


def _attend(query, positions, key_pages, value_pages, table, lengths, key, value, column_positions, *, window):
    """`attend_paged` on one device."""
    page_size = key_pages.shape[2]
    grouped = jnp.transpose(query, (0, 2, 3, 1, 4))  # batch axes first: the order in which products are made
    at = positions[:, :, None]

    def seen(places: Array, held: Array) -> Array:  # [N X] -> [N T X]
        places, held = places[:, None], held[:, None]
        return held & (places <= at) if window is None else held & (places <= at) & (at - places < window)

    def read_page(index: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        page = jax.lax.dynamic_index_in_dim(table, index, axis=1, keepdims=False)
        places = jnp.broadcast_to(index * page_size + jnp.arange(page_size), (table.shape[0], page_size))
        keys, values = (jnp.take(x, page, axis=0, mode="clip") for x in (key_pages, value_pages))
        return _add(state, grouped, keys, values, seen(places, places < lengths[:, None]))

    shape = grouped.shape[:-1]
    state = jnp.full(shape, MASKED), jnp.zeros(shape), jnp.zeros(grouped.shape)
    state = _add(state, grouped, key, value, seen(column_positions, column_positions >= 0))
    num_pages = (jnp.max(lengths) + page_size - 1) // page_size
    _, total, mixed = jax.lax.fori_loop(0, num_pages, read_page, state)
    mixed = (mixed / jnp.maximum(total, 1e-37)[..., None]).astype(query.dtype)
    return jnp.transpose(mixed, (0, 3, 1, 2, 4))


def _add(state, query, keys, values, mask):
    """Returns (largest score, sum of weights, weighted values) with the keys [N K X H] that `mask` [N T X] shows."""
    largest, total, mixed = state
    scores = jnp.einsum("nkqth,nkxh->nkqtx", query, keys, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], scores * query.shape[-1] ** -0.5, MASKED)
    now = jnp.maximum(largest, jnp.max(scores, axis=-1))
    kept = jnp.exp(largest - now)
    weights = jnp.where(mask[:, None, None], jnp.exp(scores - now[..., None]), 0.0)
    new = jnp.einsum("nkqtx,nkxh->nkqth", weights.astype(values.dtype), values, preferred_element_type=jnp.float32)
    return now, total * kept + jnp.sum(weights, axis=-1), mixed * kept[..., None] + new
