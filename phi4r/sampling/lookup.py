"""Drafts by prompt lookup: what followed the last time the newest tokens stood in this sequence (arXiv 2304.04487)."""

import jax.numpy as jnp

from phi4r.typing import Array, Int, typechecked

LONGEST_MATCH = 3  # newest tokens that are looked for


@typechecked
def look_up_drafts(history: Int[Array, "N S"], known: Int[Array, "N"], num_tokens: int) -> Int[Array, "N D"]:
    """Returns a guess at the next tokens of each sequence; negative where its newest token never stood there before.

    The longest match wins, up to `LONGEST_MATCH` tokens, and of equal ones the latest. What follows it goes on with
    itself where it reaches the end of the sequence, as in a loop.

    Args:
      history: tokens of each sequence; only the first `known` mean anything.
      known: how many there are, at least 1.
      num_tokens: D.
    """
    length = history.shape[1]
    places = jnp.arange(length)[None]
    newest = known[:, None] - 1
    matched, score = jnp.ones(history.shape, bool), -1
    for back in range(min(LONGEST_MATCH, length)):
        wanted = jnp.take_along_axis(history, jnp.maximum(newest - back, 0), axis=1)
        matched &= (jnp.roll(history, back, axis=1) == wanted) & (places >= back) & (places < newest)
        score = jnp.where(matched, back * length + places, score)
    best = jnp.argmax(score, axis=1, keepdims=True)
    found = jnp.max(score, axis=1, keepdims=True) >= 0
    following = best + 1 + jnp.arange(num_tokens)[None] % jnp.maximum(newest - best, 1)
    drafts = jnp.take_along_axis(history, jnp.minimum(following, length - 1), axis=1)
    return jnp.where(found, drafts, -1)
