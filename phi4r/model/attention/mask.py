"""The one mask rule, for packed rows, left padding and cached decoding."""

from typing import NamedTuple

from phi4r.typing import Array, Bool, Int, typechecked


class Tokens(NamedTuple):
    """Where queries or keys stand."""

    segment_ids: Array  # [B T] int32: 0 for padding and empty slots of a cache
    positions: Array  # [B T] int32: position in the segment


@typechecked
def visible(
    query_segments: Int[Array, "B T"],
    query_positions: Int[Array, "B T"],
    key_segments: Int[Array, "B S"],
    key_positions: Int[Array, "B S"],
    window: int | None = None,
) -> Bool[Array, "B T S"]:
    """The mask rule: a query sees the keys of its own segment, at its own position or before it.

    Segment 0 is padding (or an empty slot of a cache) and is never seen. With a sliding `window` of W a query sees
    W positions, its own included.
    """
    query_segments, query_positions = query_segments[:, :, None], query_positions[:, :, None]
    key_segments, key_positions = key_segments[:, None, :], key_positions[:, None, :]
    mask = (query_segments == key_segments) & (key_segments > 0) & (key_positions <= query_positions)
    if window is not None:
        mask &= key_positions > query_positions - window
    return mask
