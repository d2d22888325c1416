"""Sums over the segments of packed rows, without an array over positions x positions and without a scatter.

A scatter adds in any order on a GPU, and a run could not be repeated bit for bit. Here each token is compared with the
few numbers that a segment of a row can have; at most K numbers a token are held for a moment, where a compiler does not
sum what it compares at once.
"""

import jax.numpy as jnp

from phi4r.typing import Array

MAX_SEGMENTS = 64  # K, in a row


def segment_sums(values: Array, segment_ids: Array) -> Array:
    """Returns the sum of each segment of each row, [R K]; that of segment k is in column k - 1.

    Args:
      values: [R T].
      segment_ids: [R T] int, 0 for padding, else 1 to K.
    """
    return jnp.sum(jnp.where(_members(segment_ids), values[:, :, None], 0), axis=1)


def spread_segments(values: Array, segment_ids: Array) -> Array:
    """Returns for every token the value of its segment, [R T] of [R K]; 0 on padding."""
    return jnp.sum(jnp.where(_members(segment_ids), values[:, None, :], 0), axis=2)


def _members(segment_ids: Array) -> Array:
    """Returns whether token t is in segment k + 1, [R T K]."""
    return segment_ids[:, :, None] == jnp.arange(1, MAX_SEGMENTS + 1)[None, None]
