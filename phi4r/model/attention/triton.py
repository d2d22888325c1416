"""The backend for NVIDIA GPUs: flash attention as Pallas Triton kernels that skip the blocks no query sees.

Queries of a group read their own KV head, and the gradients of K and V are summed over the group inside the kernel, so
K and V are never repeated in memory. XLA works out before a kernel runs which blocks can be seen (`triton_ranges`), a
few integers for each; the kernels (`triton_kernels`) loop over these and mask only those that are not visible as a
whole.
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from phi4r.errors import UserError
from phi4r.model.attention.mask import Tokens
from phi4r.model.attention.places import query_places
from phi4r.model.attention.triton_kernels import (
    NEVER,
    Static,
    Tile,
    Tiles,
    block_width,
    dkv_kernel,
    dq_kernel,
    forward_kernel,
)
from phi4r.model.attention.triton_ranges import key_ranges, query_ranges
from phi4r.sharding import device_in_use
from phi4r.typing import Array

MAX_HEAD_DIM = 128
LARGE_SHARED_MEMORY = ("H100", "H200", "H800", "B200", "B300")  # 227 KiB for a block


def attend_triton(
    query: Array,
    key: Array,
    value: Array,
    queries: Tokens,
    keys: Tokens,
    *,
    window: int | None = None,
    context_shards: int = 1,
) -> Array:
    """Attention for whole rows on one device; see `phi4r.model.attention.attend` for the arguments.

    Keys are in the order of the row. With `context_shards` C > 1 the queries are parts i and 2C - 1 - i of the 2C
    parts of the row, i being this device's place on the mesh axis `context`. On CPU the kernels are interpreted.

    Raises:
      UserError: on a TPU, for a head dimension above 128, other dtypes than bfloat16 and float32, or queries and
        keys that are not of the same row.
    """
    platform, kind = _device()
    _refuse_impossible(query, key, value, context_shards)
    length, head_dim = query.shape[1], query.shape[-1]
    tiles = choose_tiles(length, head_dim, query.dtype.itemsize, kind)
    query, queries = _padded(query, 1, tiles, "queries"), Tokens(*(_padded(x, 1, tiles, "queries") for x in queries))
    keys = Tokens(jnp.where(keys.segment_ids > 0, keys.segment_ids, NEVER), keys.positions)
    key, value = (_padded(x, 2, tiles, "keys") for x in (key, value))
    keys = Tokens(_padded(keys.segment_ids, 1, tiles, "keys", NEVER), _padded(keys.positions, 1, tiles, "keys"))
    places = query_places(length, context_shards)
    ranges = Tiles(
        forward=key_ranges(queries.segment_ids, keys.segment_ids, places, tiles.forward, window),
        dq=key_ranges(queries.segment_ids, keys.segment_ids, places, tiles.dq, window),
        dkv=query_ranges(keys.segment_ids, places, tiles.dkv, window),
    )
    static = Static(tiles, head_dim, window, interpret=platform == "cpu")
    return _attention(query, key, value, queries, keys, ranges, static)[:, :length]


def choose_tiles(length: int, head_dim: int, itemsize: int, device_kind: str = "") -> Tiles:
    """Returns the blocks of the three kernels, so large as registers and shared memory hold them without spilling.

    Args:
      length: T, queries on this device; shorter rows get smaller blocks.
      head_dim: H.
      itemsize: bytes of a number of the inputs.
      device_kind: as jax names it; a kind that is not known to have more has 99 KiB of shared memory for a block.
    """
    narrow = head_dim <= 64
    if itemsize == 4:
        tiles = Tiles(forward=Tile(32, 16, 8, 2), dq=Tile(32, 16, 8, 2), dkv=Tile(32, 32, 8, 2))
    elif any(name in device_kind for name in LARGE_SHARED_MEMORY):
        dq = Tile(128, 128 if narrow else 64, 8, 3)
        tiles = Tiles(forward=Tile(128, 128, 8, 3), dq=dq, dkv=Tile(64, 128, 8, 3))
    elif narrow:
        tiles = Tiles(forward=Tile(128, 64, 8, 3), dq=Tile(64, 64, 4, 3), dkv=Tile(64, 64, 4, 3))
    else:
        tiles = Tiles(forward=Tile(128, 32, 8, 3), dq=Tile(64, 32, 4, 3), dkv=Tile(32, 64, 4, 3))
    most = max(16, pl.next_power_of_2(length))
    return Tiles(*(tile._replace(queries=min(tile.queries, most), keys=min(tile.keys, most)) for tile in tiles))


def _device() -> tuple[str, str]:
    """Returns platform ("cpu" or "gpu") and kind of the devices in use."""
    device = device_in_use()
    if device.platform == "tpu":
        raise UserError('attention="triton" is for NVIDIA GPUs, not for a TPU; take "splash" or "auto".')
    return device.platform, device.device_kind


def _refuse_impossible(query: Array, key: Array, value: Array, context_shards: int) -> None:
    """Raises UserError for what the kernels cannot honour."""
    dtypes, head_dim = {x.dtype.name for x in (query, key, value)}, query.shape[-1]
    if head_dim > MAX_HEAD_DIM:
        raise UserError(
            f'attention="triton" takes heads of at most {MAX_HEAD_DIM} numbers, not {head_dim}; take "blockwise".'
        )
    if len(dtypes) > 1 or not dtypes <= {"bfloat16", "float32"}:
        raise UserError(
            f'attention="triton" takes bfloat16 or float32, the same for all, not {", ".join(sorted(dtypes))}.'
        )
    if query.shape[1] * context_shards != key.shape[2] or (context_shards > 1 and query.shape[1] % 2):
        raise UserError(
            f'attention="triton" is for whole rows: {query.shape[1]} queries on each of {context_shards} devices are '
            f'not those of {key.shape[2]} keys; take "dense".'
        )


def _padded(x: Array, axis: int, tiles: Tiles, side: str, fill: int = 0) -> Array:
    """Returns `x` with its axis of queries or keys filled up to a multiple of the blocks of every kernel."""
    block = max(getattr(tile, side) for tile in tiles)
    pads = [(0, 0)] * x.ndim
    pads[axis] = (0, -x.shape[axis] % block)
    return jnp.pad(x, pads, constant_values=fill) if pads[axis][1] else x


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _attention(query, key, value, queries: Tokens, keys: Tokens, ranges: Tiles, static: Static) -> Array:
    return _forward(query, key, value, queries, keys, ranges.forward, static)[0]


def _attention_forward(query, key, value, queries: Tokens, keys: Tokens, ranges: Tiles, static: Static):
    out, lse = _forward(query, key, value, queries, keys, ranges.forward, static)
    out, lse = checkpoint_name(out, "attention_out"), checkpoint_name(lse, "attention_lse")
    return out, (query, key, value, queries, keys, ranges, out, lse)


def _attention_backward(static: Static, residuals, out_grad: Array):
    *inputs, ranges, out, lse = residuals
    delta = jnp.sum(out.astype(jnp.float32) * out_grad.astype(jnp.float32), axis=-1).transpose(0, 2, 3, 1)
    inputs = (*inputs, out_grad, lse, delta)
    return (_query_gradient(*inputs, ranges.dq, static), *_key_gradients(*inputs, ranges.dkv, static), None, None, None)


_attention.defvjp(_attention_forward, _attention_backward)


@functools.partial(jax.jit, static_argnames="static")  # a call of its own: rematerialisation drops it where unused
def _forward(query, key, value, queries: Tokens, keys: Tokens, ranges: Array, static: Static) -> tuple[Array, Array]:
    """Returns attention [B T K Q H] and the logsumexp of the scores, to base 2, [B K Q T] float32."""
    tile = static.tiles.forward
    grid, (ranges_spec, query_spec, key_spec, queries_spec, keys_spec, lse_spec) = _specs_by_query(query, key, tile)
    lse_shape = jax.ShapeDtypeStruct((query.shape[0], *query.shape[2:4], query.shape[1]), jnp.float32)
    return _call(
        functools.partial(forward_kernel, static=static),
        grid,
        (ranges_spec, query_spec, key_spec, key_spec, queries_spec, keys_spec),
        [query_spec, lse_spec],
        [jax.ShapeDtypeStruct(query.shape, query.dtype), lse_shape],
        tile,
        static,
    )(ranges, query, key, value, queries, keys)


def _query_gradient(query, key, value, queries, keys, out_grad, lse, delta, ranges, static: Static) -> Array:
    tile = static.tiles.dq
    grid, (ranges_spec, query_spec, key_spec, queries_spec, keys_spec, lse_spec) = _specs_by_query(query, key, tile)
    return _call(
        functools.partial(dq_kernel, static=static),
        grid,
        (ranges_spec, query_spec, key_spec, key_spec, queries_spec, keys_spec, query_spec, lse_spec, lse_spec),
        query_spec,
        jax.ShapeDtypeStruct(query.shape, query.dtype),
        tile,
        static,
    )(ranges, query, key, value, queries, keys, out_grad, lse, delta)


def _key_gradients(query, key, value, queries, keys, out_grad, lse, delta, ranges, static: Static) -> list[Array]:
    tile = static.tiles.dkv
    grid, (ranges_spec, query_spec, key_spec, queries_spec, keys_spec, lse_spec) = _specs_by_key(query, key, tile)
    return _call(
        functools.partial(dkv_kernel, static=static),
        grid,
        (ranges_spec, query_spec, key_spec, key_spec, queries_spec, keys_spec, query_spec, lse_spec, lse_spec),
        [key_spec, key_spec],
        [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (key, value)],
        tile,
        static,
    )(ranges, query, key, value, queries, keys, out_grad, lse, delta)


def _call(kernel, grid, in_specs, out_specs, out_shape, tile: Tile, static: Static):
    return pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=in_specs,
        out_specs=out_specs,
        out_shape=out_shape,
        compiler_params=plgpu.CompilerParams(num_warps=tile.warps, num_stages=tile.stages),
        interpret=static.interpret,
        name=f"attention_{kernel.func.__name__.removesuffix('_kernel')}",
    )


def _specs_by_query(query: Array, key: Array, tile: Tile):
    """Returns grid and specs of a program for each block of queries of each head, the long last ones first.

    The specs are those of ranges, queries (and out), keys (and values), Tokens of either, and logsumexp (and delta).
    """
    rows, length, kv_heads, group, head_dim = query.shape
    blocks, width = length // tile.queries, block_width(head_dim)
    grid = (blocks, kv_heads * group, rows)

    def spec(shape, index):  # index: of row, block, KV head, query head of the KV head
        return pl.BlockSpec(
            shape, lambda i, n, b: index(b, blocks - 1 - i, jax.lax.div(n, group), jax.lax.rem(n, group))
        )

    return grid, (
        spec((None, None, 4), lambda b, i, k, q: (b, i, 0)),
        spec((None, tile.queries, None, None, width), lambda b, i, k, q: (b, i, k, q, 0)),
        spec((None, None, key.shape[2], width), lambda b, i, k, q: (b, k, 0, 0)),
        Tokens(*[spec((None, tile.queries), lambda b, i, k, q: (b, i))] * 2),
        Tokens(*[spec((None, key.shape[2]), lambda b, i, k, q: (b, 0))] * 2),
        spec((None, None, None, tile.queries), lambda b, i, k, q: (b, k, q, i)),
    )


def _specs_by_key(query: Array, key: Array, tile: Tile):
    """Returns grid and specs of a program for each block of keys of each KV head; specs as in `_specs_by_query`."""
    rows, length, kv_heads, group, head_dim = query.shape
    width = block_width(head_dim)
    return (key.shape[2] // tile.keys, kv_heads, rows), (
        pl.BlockSpec((None, None, 4), lambda j, k, b: (b, j, 0)),
        pl.BlockSpec((None, length, None, group, width), lambda j, k, b: (b, 0, k, 0, 0)),
        pl.BlockSpec((None, None, tile.keys, width), lambda j, k, b: (b, k, j, 0)),
        Tokens(*[pl.BlockSpec((None, length), lambda j, k, b: (b, 0))] * 2),
        Tokens(*[pl.BlockSpec((None, tile.keys), lambda j, k, b: (b, j))] * 2),
        pl.BlockSpec((None, None, group, length), lambda j, k, b: (b, k, 0, 0)),
    )
