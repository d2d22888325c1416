"""Rotary position embedding: half rotation, partial rotary, and frequencies scaled for longer contexts."""

import jax.numpy as jnp
import numpy as np

from phi4r.model.config import ModelConfig
from phi4r.model.rope_scaling import longrope_attention_factor
from phi4r.typing import Array, Float, Int, typechecked


def inverse_frequencies(config: ModelConfig, factors: tuple[float, ...] | None = None) -> np.ndarray:
    """Returns 1 / (factor * theta^(2i / rotary_dim)) for each rotated pair i; [rotary_dim / 2] float32.

    Every intermediate is rounded to float32, as in the reference: at position 30,000 one unit in the last place of
    a frequency already turns the angle by 0.002.
    """
    exponent = np.arange(0, config.rotary_dim, 2).astype(np.float32) / np.float32(config.rotary_dim)
    power = np.power(np.float64(config.rope_theta), exponent.astype(np.float64)).astype(np.float32)
    if factors is not None:
        power = np.asarray(factors, np.float32) * power
    return np.float32(1.0) / power


@typechecked
def rotary_angles(
    positions: Int[Array, "B T"], config: ModelConfig, *, longest: int | None = None
) -> tuple[Float[Array, "B T r"], Float[Array, "B T r"]]:
    """Returns cos and sin of the rotation of every position, float32; r = rotary_dim / 2.

    Args:
      positions: position of each token in its segment.
      config: the shape; `config.longrope` chooses between short and long factors.
      longest: the most positions that a sequence can reach (the capacity of a cache), where that decides about
        longrope; None to look at the positions of this call.
    """
    longrope = config.longrope
    if longrope is None:
        frequencies, scale = jnp.asarray(inverse_frequencies(config)), 1.0
    else:
        short = jnp.asarray(inverse_frequencies(config, longrope.short_factor))
        long = jnp.asarray(inverse_frequencies(config, longrope.long_factor))
        if longrope.use == "auto":
            reached = longest if longest is not None else jnp.max(positions) + 1
            is_long = reached > longrope.original_max_positions
        else:
            is_long = longrope.use == "long"
        frequencies = jnp.where(is_long, long, short)
        scale = longrope.attention_factor
        if scale is None:
            scale = longrope_attention_factor(config.max_positions, longrope.original_max_positions)
    angles = positions[:, :, None].astype(jnp.float32) * frequencies[None, None, :]
    return jnp.cos(angles) * scale, jnp.sin(angles) * scale


@typechecked
def rotate(
    x: Float[Array, "B T *heads H"], cos: Float[Array, "B T r"], sin: Float[Array, "B T r"]
) -> Float[Array, "B T *heads H"]:
    """Rotates the first 2r dimensions of every head, the pair (i, i + r) by angle i; the tail passes unrotated.

    Computed in float32 and returned in the dtype of `x`.
    """
    half = cos.shape[-1]
    heads = tuple(range(2, x.ndim - 1))
    cos, sin = jnp.expand_dims(cos, heads), jnp.expand_dims(sin, heads)
    first, second, tail = jnp.split(x.astype(jnp.float32), [half, 2 * half], axis=-1)
    rotated = [first * cos - second * sin, second * cos + first * sin, tail]
    return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
