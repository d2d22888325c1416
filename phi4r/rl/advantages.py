"""Advantages: how much better a response was than the others to the same problem."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from phi4r.errors import UserError
from phi4r.typing import Array, Float, typechecked

GroupStd = Literal["population", "sample", "none"]
Baseline = Literal["mean", "leave_one_out"]


class GroupAdvantages(NamedTuple):
    """Advantages, and which groups carry no signal."""

    advantages: Array  # [B] float32
    zero_spread: Array  # [P] bool: all rewards of the group are equal, so its advantages are exactly 0


@functools.partial(jax.jit, static_argnames=("group_size", "std", "eps", "baseline"))
@typechecked
def group_advantages(
    rewards: Float[Array, "B"], *, group_size: int, std: GroupStd, eps: float, baseline: Baseline = "mean"
) -> GroupAdvantages:
    """Returns A_i = (R_i - baseline_i) / (std + eps) within each group.

    Groups without spread get exactly 0. They are found by comparing rewards, because the mean of equal float32
    numbers may be off by a rounding error, which a division by a tiny standard deviation would blow up.

    Args:
      rewards: rows i * G .. i * G + G - 1 answer problem i.
      group_size: G.
      std: the divisor; see `GrpoSettings.group_std`.
      eps: added to the divisor.
      baseline: see `GrpoSettings.baseline`.

    Raises:
      UserError: when the rows are not whole groups.
    """
    if rewards.shape[0] % group_size:
        raise UserError(f"{rewards.shape[0]} rewards are not whole groups of group_size={group_size}.")
    groups = rewards.reshape(-1, group_size).astype(jnp.float32)
    centred = groups - jnp.mean(groups, axis=1, keepdims=True)
    zero_spread = jnp.max(groups, axis=1) == jnp.min(groups, axis=1)
    if std == "none":
        scaled = centred
    else:
        degrees = group_size if std == "population" else group_size - 1
        variance = jnp.sum(centred**2, axis=1, keepdims=True) / degrees
        scaled = centred / (jnp.sqrt(variance) + eps)
    if baseline == "leave_one_out":
        scaled = scaled * (group_size / (group_size - 1))  # R_i - mean of the others = G / (G - 1) (R_i - mean of all)
    advantages = jnp.where(zero_spread[:, None], 0.0, scaled)
    return GroupAdvantages(advantages.reshape(-1), zero_spread)
