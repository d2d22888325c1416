"""Attention on TPUs: the splash kernel of jax, told at run time which blocks of a packed row it has to visit.

The kernel holds the scores of one block of queries and one block of keys at a time. Which pairs of blocks it computes,
and which block it fetches next, it reads from small tables. Here they are computed from the segments of the batch, so
that neither the upper triangle nor other segments nor padding cost a product, on any part of a row that a device of
`context` holds. The rows of a batch lie one behind the other in a single call.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas.ops.tpu.splash_attention import BlockSizes, SegmentIds
from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_kernel import (
    DEFAULT_MASK_VALUE,
    SplashAttentionKernel,
)
from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask_info import MaskInfo

from phi4r.errors import UserError
from phi4r.model.attention.mask import Tokens
from phi4r.model.attention.places import query_places
from phi4r.sharding import device_in_use
from phi4r.typing import Array

LANES = 128  # the width of a vector register: blocks are multiples of it
# What the vector memory of v5e, v5p and v6e takes at every length; 2048 overflows it on v5p, and on v6e at T = 32k.
LARGEST_BLOCK = 1024
# Of queries or of keys: heads of 128 in float32 reach it, wider ones get smaller blocks.
LARGEST_BLOCK_BYTES = 512 * 1024
LARGEST_PRODUCT = 512  # keys of a block that are multiplied at a time


def attend_splash(
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

    A padding query gives an average of padding values near it. On a CPU the kernel is interpreted, which is for tests.

    Args:
      query: [B T K Q H].
      key: [B K S H].
      value: [B K S H].
      queries: [B T].
      keys: [B S].
      window: None; the kernel compares places in the row, and positions may rise faster than these.
      context_shards: C; where it is more than 1, the queries are parts i and 2C - 1 - i of the row, for this device's
        index i on the mesh axis `context`.

    Returns:
      [B T K Q H].

    Raises:
      UserError: for a window, or on a GPU.
    """
    platform = device_in_use().platform
    if window is not None:
        raise UserError(f'attention="splash" has no sliding window (here {window}); take attention="blockwise".')
    if platform not in ("tpu", "cpu"):
        raise UserError(f'attention="splash" runs on TPUs, not on a {platform}; take attention="blockwise".')
    batch, length, kv_heads, group, head_dim = query.shape
    sizes = block_sizes(length, key.shape[2], head_dim * query.dtype.itemsize)
    # Past its end a row goes on with copies of its last query, which see something, and with padding keys.
    places = _padded(query_places(length, context_shards).reshape(1, -1), 1, sizes.block_q, mode="edge")
    query_ids = _padded(queries.segment_ids, 1, sizes.block_q, mode="edge")
    key_ids = _padded(keys.segment_ids, 1, sizes.block_kv)
    query_ids = _padding_apart(query_ids, places)
    key_ids = _padding_apart(key_ids, jnp.arange(key_ids.shape[1])[None])
    kernel = SplashAttentionKernel(
        *mask_tables(query_ids, places, key_ids, sizes),
        block_sizes=sizes,
        is_mqa=False,
        save_residuals=False,
        mask_value=DEFAULT_MASK_VALUE,
        attn_logits_soft_cap=None,
        residual_checkpoint_name="attention_out",  # the name of both results, the output and its logsumexp
        mask_function=_not_after,
        interpret=platform == "cpu",
    )
    query = jnp.transpose(_padded(query * head_dim**-0.5, 1, sizes.block_q), (2, 3, 0, 1, 4))
    key, value = (jnp.swapaxes(_padded(x, 2, sizes.block_kv), 0, 1) for x in (key, value))
    out = kernel(
        query.reshape(kv_heads * group, -1, head_dim),
        key.reshape(kv_heads, -1, head_dim),
        value.reshape(kv_heads, -1, head_dim),
        SegmentIds(query_ids.reshape(-1), key_ids.reshape(-1)),
    )
    out = out.reshape(kv_heads, group, batch, -1, head_dim)[:, :, :, :length]
    return jnp.transpose(out, (2, 3, 0, 1, 4))


def block_sizes(query_length: int, key_length: int, head_bytes: int) -> BlockSizes:
    """Returns the blocks of all three kernels (forward, gradient of queries, gradient of keys and values).

    Args:
      query_length: T, of the part of the row that is on the device.
      key_length: S.
      head_bytes: bytes of one query or key.
    """
    largest = min(LARGEST_BLOCK, LARGEST_BLOCK_BYTES // head_bytes)
    query_block, key_block = _even_block(query_length, largest), _even_block(key_length, largest)
    product = max(size for size in range(LANES, LARGEST_PRODUCT + 1, LANES) if key_block % size == 0)
    return BlockSizes(
        block_q=query_block,
        block_kv=key_block,
        block_kv_compute=product,
        block_q_dkv=query_block,
        block_kv_dkv=key_block,
        block_kv_dkv_compute=product,
        block_q_dq=query_block,
        block_kv_dq=key_block,
    )


def _even_block(length: int, largest: int) -> int:
    """Returns the size of the fewest equal blocks, multiples of `LANES`, that cover `length`."""
    blocks = pl.cdiv(length, largest)
    return LANES * pl.cdiv(length, LANES * blocks)


def mask_tables(query_ids: Array, places: Array, key_ids: Array, sizes: BlockSizes) -> tuple[MaskInfo, ...]:
    """Returns the tables of the forward kernel, of that for the queries' gradient, and of that for the keys'.

    Args:
      query_ids: [B T], from `_padding_apart`.
      places: [1 T], of the queries in the row.
      key_ids: [B S].
      sizes: T and S are whole numbers of blocks.
    """
    visited = visited_blocks(query_ids, places, key_ids, sizes.block_q, sizes.block_kv)
    batch, query_blocks, key_blocks = visited.shape
    row = jnp.arange(batch)[:, None, None]
    # Grids: by queries [B * n, m], each its own row's m key blocks; by keys [n, B * m].
    next_visit = _next_visited(visited.reshape(1, -1)).reshape(visited.shape)
    next_key = next_visit // (query_blocks * key_blocks) * key_blocks + next_visit % key_blocks
    next_query = row * query_blocks + jnp.swapaxes(_next_visited(jnp.swapaxes(visited, 1, 2)), 1, 2)
    # The kernel numbers the keys of all rows as one sequence; each query sees those up to its own number.
    numbers = (places + row[:, 0] * key_ids.shape[1]).reshape(-1)

    def info(following: Array, visits: Array, shape: tuple[int, int, int]) -> MaskInfo:
        following, visits = (x.astype(jnp.int32).reshape(shape) for x in (following, visits))
        return MaskInfo(following, None, visits, None, numbers)

    by_query = info(next_key, visited, (1, batch * query_blocks, key_blocks))
    by_key = info(*(jnp.swapaxes(x, 0, 1) for x in (next_query, visited)), (1, query_blocks, batch * key_blocks))
    return by_query, by_query, by_key


def visited_blocks(query_ids: Array, places: Array, key_ids: Array, query_block: int, key_block: int) -> Array:
    """Returns which pairs of blocks the kernels compute: all that hold a visible pair; [B n m] bool.

    Args:
      query_ids: [B T], negative at padding, which sees only the keys at most `LANES` places before it.
      places: [1 T], of the queries in the row, rising.
      key_ids: [B S], negative at padding.
      query_block: divides T into n blocks.
      key_block: divides S into m blocks, a multiple of `LANES`.
    """
    query_low, query_high = (x[:, :, None] for x in _segment_range(query_ids, query_block))
    key_low, key_high = (x[:, None, :] for x in _segment_range(key_ids, key_block))
    places = places.reshape(1, -1, query_block)
    first_query, last_query = places[:, :, :1], places[:, :, -1:]  # [1 n 1]
    first_key = jnp.arange(0, key_ids.shape[1], key_block)[None, None]
    not_after = first_key <= last_query
    around = not_after & (first_query < first_key + key_block)  # a token and the padding before it in its own block
    return (not_after & (query_low <= key_high) & (key_low <= query_high)) | around


def _segment_range(ids: Array, block: int) -> tuple[Array, Array]:
    """Returns the lowest and the highest segment in each block of ids [B T], an empty range for padding; [B n] each."""
    ids = ids.reshape(ids.shape[0], -1, block)
    return jnp.min(jnp.where(ids > 0, ids, jnp.iinfo(ids.dtype).max), axis=-1), jnp.max(ids, axis=-1)


def _next_visited(visited: Array) -> Array:
    """Returns for every entry the index of the first visited one from there on, cyclically along the last axis."""
    size, axis = visited.shape[-1], visited.ndim - 1
    index = jnp.where(visited, jax.lax.broadcasted_iota(jnp.int32, visited.shape, axis), size)
    following = jax.lax.cummin(index, axis=axis, reverse=True)
    return jnp.where(following < size, following, jnp.min(index, axis=axis, keepdims=True)) % size


def _padding_apart(ids: Array, places: Array) -> Array:
    """Returns segment ids [B T] in which padding is cut into segments of its own, below 0, of `LANES` places each.

    So a padding query sees something, and never a real key; a long stretch of padding costs next to nothing.
    """
    return jnp.where(ids > 0, ids, -1 - places // LANES)


def _not_after(query_numbers: Array, key_numbers: Array) -> Array:
    """The causal mask inside the kernel: positions rise along a segment, so that places decide."""
    return query_numbers >= key_numbers


def _padded(x: Array, axis: int, block: int, mode: str = "constant") -> Array:
    """Returns x lengthened along `axis` to a whole number of blocks, with zeros or (mode "edge") its last entry."""
    return jnp.pad(x, [(0, -x.shape[i] % block if i == axis else 0) for i in range(x.ndim)], mode=mode)
