"""Which blocks of keys and queries see each other, worked out by XLA before the Triton kernels run.

A place is the index of a token in its row. The queries that see a key are an interval of the row, and so neighbours
among the queries of this device too, which are in the order of the row.
"""

import jax.numpy as jnp

from phi4r.model.attention.triton_kernels import Tile
from phi4r.typing import Array


def key_ranges(query_segments: Array, key_segments: Array, places: Array, tile: Tile, window: int | None) -> Array:
    """Returns for every block of queries which blocks of keys it sees.

    Args:
      query_segments: [B T] int32, T a multiple of the block.
      key_segments: [B S] int32, `NEVER` for padding.
      places: [runs, queries of a run], of the queries before they are filled up to whole blocks.
      tile: block sizes.
      window: as in `attend`.

    Returns:
      [B T/queries 4] int32: begin, full_begin, full_end, end. Blocks outside [begin, end) are seen by no query of the
      block, those in [full_begin, full_end) by all of them as a whole.
    """
    rows, length = query_segments.shape
    segments = query_segments.reshape(rows, -1, tile.queries)
    places = jnp.pad(places.reshape(-1), (0, length - places.size)).reshape(1, -1, tile.queries)
    first, last = _first_and_last(segments > 0, jnp.broadcast_to(places, segments.shape))
    start, _ = _segment_ends(key_segments, first)
    begin = start if window is None else jnp.maximum(start, first - window + 1)
    return _block_ranges(begin, last + 1, start, _if_full(segments, window, first + 1), tile.keys)


def query_ranges(key_segments: Array, places: Array, tile: Tile, window: int | None) -> Array:
    """Returns for every block of keys which blocks of queries see it, [B S/keys 4] int32 as in `key_ranges`."""
    rows, length = key_segments.shape
    segments = key_segments.reshape(rows, -1, tile.keys)
    row = jnp.arange(length).reshape(1, -1, tile.keys)
    first, last = _first_and_last(segments > 0, jnp.broadcast_to(row, segments.shape))
    _, stop = _segment_ends(key_segments, last)
    end = jnp.where(last < first, first, stop if window is None else jnp.minimum(stop, last + window))

    def queries_before(place: Array) -> Array:
        return sum(jnp.clip(place - run[0], 0, run.size) for run in places)

    begin, end, full_begin, full_end = map(queries_before, (first, end, last, stop))
    return _block_ranges(begin, end, full_begin, _if_full(segments, window, full_end), tile.queries)


def _first_and_last(real: Array, places: Array) -> tuple[Array, Array]:
    """Returns the first and the last place of real tokens in every block, [B n]; 0 and -1 where there is none."""
    last = jnp.max(jnp.where(real, places, -1), axis=-1)
    first = jnp.min(jnp.where(real, places, jnp.iinfo(jnp.int32).max), axis=-1)
    return jnp.where(last < 0, 0, first), last


def _segment_ends(segments: Array, places: Array) -> tuple[Array, Array]:
    """Returns where the segments at `places` [B n] begin, and end (exclusive), in the row of `segments` [B S]."""
    chosen = jnp.take_along_axis(segments, jnp.maximum(places, 0), axis=1)
    same = segments[:, None, :] == chosen[:, :, None]  # [B n S], fused into the two reductions
    index = jnp.arange(segments.shape[1])[None, None]
    return jnp.min(jnp.where(same, index, segments.shape[1]), -1), jnp.max(jnp.where(same, index + 1, 0), -1)


def _if_full(segments: Array, window: int | None, bound: Array) -> Array:
    """Returns `bound` for blocks of one segment alone, 0 for others; a window leaves no block visible as a whole."""
    alone = jnp.all((segments == segments[..., :1]) & (segments > 0), axis=-1)
    return jnp.where(alone & (window is None), bound, 0)


def _block_ranges(begin: Array, end: Array, full_begin: Array, full_end: Array, block: int) -> Array:
    """Returns intervals of tokens as intervals of blocks: those that meet the first, those inside the second."""
    lo = jnp.where(begin < end, begin // block, 0)
    hi = jnp.where(begin < end, -(-end // block), 0)
    full_lo = jnp.clip(-(-full_begin // block), lo, hi)
    return jnp.stack([lo, full_lo, jnp.clip(full_end // block, full_lo, hi), hi], axis=-1).astype(jnp.int32)
