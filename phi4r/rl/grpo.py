"""GRPO: group advantages and the clipped objective of section 4, as sums with one division.

For a question the policy draws a group of G responses o_i. With r_t the ratio of the new to the sampling policy's
probability of token t, the objective that is maximised is

    mean_i 1/|o_i| sum_t [ min(r_t A_i, clip(r_t, 1 - eps, 1 + eps) A_i) - beta KL_t + gamma H_t ]

    A_i = (R_i - mean(R)) / (std(R) + advantage_eps)      over the group,

KL_t estimated against the frozen reference policy and H_t the entropy of the policy's distribution of token t.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from phi4r.errors import UserError
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer
from phi4r.rl.trajectories import Trajectories
from phi4r.train.step import LossSum, Mean
from phi4r.typing import Array, Float, Params, typechecked

GroupStd = Literal["population", "sample", "none"]
Aggregation = Literal["sequence_mean", "token_mean"]
KlEstimator = Literal["k1", "k2", "k3"]


@dataclasses.dataclass(frozen=True)
class GrpoSettings:
    """Constants and conventions of GRPO. Frameworks differ in the conventions, so each one is named.

    Attributes:
      group_size: G, responses to a problem.
      clip_epsilon: eps, how far the ratio may move before a token stops counting.
      kl_beta: beta, weight of the KL penalty.
      entropy_gamma: gamma, weight of the entropy bonus.
      group_std: what an advantage is divided by: the "population" (1/G) or "sample" (1/(G-1)) standard deviation
        of its group, or "none".
      advantage_eps: added to that standard deviation.
      aggregation: "sequence_mean", as printed in the paper: the mean of a response's tokens, then of the responses;
        "token_mean": all tokens of the batch weigh the same, so long responses weigh more.
      kl_estimator: "k1" log(p/ref): unbiased, but as a term of a loss its expected gradient is zero; "k2" half its
        square; "k3" ref/p - 1 - log(ref/p): unbiased and never negative.
      temperature: of the rollouts, and of every log-probability of policy and reference. One number, because a
        trainer that scores at another temperature than the sampler drew optimises another policy.
      log_ratio_limit: log-ratios are clamped to plus or minus this before exp; at 20 nothing overflows in float32.
    """

    group_size: int = 8  # section 4
    clip_epsilon: float = 0.2  # not in the paper
    kl_beta: float = 0.001  # section 4
    entropy_gamma: float = 0.001  # section 4
    group_std: GroupStd = "population"  # not in the paper
    advantage_eps: float = 1e-6  # not in the paper
    aggregation: Aggregation = "sequence_mean"  # section 4
    kl_estimator: KlEstimator = "k3"  # not in the paper
    temperature: float = 1.0  # not in the paper
    log_ratio_limit: float = 20.0  # not in the paper

    def __post_init__(self):
        if self.group_size < 2:
            raise UserError(f"grpo.group_size={self.group_size} leaves nothing to compare with; give 2 or more.")
        if not 0.0 < self.clip_epsilon < 1.0:
            raise UserError(f"grpo.clip_epsilon={self.clip_epsilon} must lie between 0 and 1; 0.2 is usual.")
        if self.temperature <= 0.0:
            raise UserError(f"grpo.temperature={self.temperature} must be positive: greedy groups have no spread.")
        if self.log_ratio_limit <= 0.0 or self.advantage_eps < 0.0:
            raise UserError("grpo.log_ratio_limit must be positive and grpo.advantage_eps not negative.")


class GroupAdvantages(NamedTuple):
    """Advantages, and which groups carry no signal."""

    advantages: Array  # [B] float32
    zero_spread: Array  # [P] bool: all rewards of the group are equal, so its advantages are exactly 0


@functools.partial(jax.jit, static_argnames=("group_size", "std", "eps"))
@typechecked
def group_advantages(rewards: Float[Array, "B"], *, group_size: int, std: GroupStd, eps: float) -> GroupAdvantages:
    """Returns A_i = (R_i - mean) / (std + eps) within each group.

    Groups without spread get exactly 0. They are found by comparing rewards, because the mean of equal float32
    numbers may be off by a rounding error, which a division by a tiny standard deviation would blow up.

    Args:
      rewards: rows i * G .. i * G + G - 1 answer problem i.
      group_size: G.
      std: the divisor; see `GrpoSettings.group_std`.
      eps: added to the divisor.

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
    advantages = jnp.where(zero_spread[:, None], 0.0, scaled)
    return GroupAdvantages(advantages.reshape(-1), zero_spread)


def make_grpo_loss(
    model: Transformer, settings: GrpoSettings, *, chunk_size: int
) -> Callable[[Params, Trajectories], LossSum]:
    """Returns loss_fn(params, trajectories) -> LossSum: the negative objective, for `make_update_fn`.

    Args:
      model: the policy.
      settings: constants and conventions.
      chunk_size: positions whose logits exist at a time; see `token_logprobs`.
    """

    def loss_fn(params: Params, trajectories: Trajectories) -> LossSum:
        logprobs, entropy = token_logprobs(
            model, params, trajectories.batch, chunk_size=chunk_size, temperature=settings.temperature
        )
        return grpo_terms(logprobs, entropy, trajectories, settings)

    return loss_fn


@typechecked
def grpo_terms(
    logprobs: Float[Array, "B T"], entropy: Float[Array, "B T"], trajectories: Trajectories, settings: GrpoSettings
) -> LossSum:
    """Returns the negative objective of a (micro-)batch as a sum and its weight, and its metrics.

    Every per-token term is averaged in the same way, so that neither the entropy bonus nor the penalty grows with
    the length of a response. Rows without response tokens have weight 0. Sums over micro-batches add up to those of
    the whole batch, whatever their sizes, padding and order.

    Args:
      logprobs: of the targets under the policy, at `settings.temperature`.
      entropy: of the policy's distribution of each target, in nats, at the same temperature.
      trajectories: what was sampled; nothing in it is differentiated.
      settings: constants and conventions.
    """
    mask = trajectories.batch.loss_mask > 0
    advantages = trajectories.advantages[:, None]
    eps, limit = settings.clip_epsilon, settings.log_ratio_limit
    log_ratio = jnp.where(mask, logprobs - trajectories.sampler_logprobs, 0.0)
    ratio = jnp.exp(jnp.clip(log_ratio, -limit, limit))
    surrogate = jnp.minimum(ratio * advantages, jnp.clip(ratio, 1.0 - eps, 1.0 + eps) * advantages)
    kl = _kl(jnp.where(mask, logprobs - trajectories.ref_logprobs, 0.0), settings)
    objective = surrogate - settings.kl_beta * kl + settings.entropy_gamma * entropy
    total = _sum_tokens(objective, mask, settings.aggregation)
    per_token = {
        "kl": kl,
        "entropy": entropy,
        "clip_low": (ratio < 1.0 - eps) & (advantages < 0),
        "clip_high": (ratio > 1.0 + eps) & (advantages > 0),
        "ratio": ratio,
        "logprob_gap": jnp.abs(log_ratio),
    }
    per_row = {
        "ratio_row_max": jnp.max(jnp.where(mask, ratio, 0.0), axis=1),
        "logprob_gap_row_max": jnp.max(jnp.abs(log_ratio), axis=1),
        "advantage_abs": jnp.abs(trajectories.advantages),
    }
    num_tokens, rows = jnp.sum(mask, dtype=jnp.float32), jnp.any(mask, axis=1)
    num_rows = jnp.sum(rows, dtype=jnp.float32)
    return LossSum(
        total=-total,
        weight=num_rows if settings.aggregation == "sequence_mean" else num_tokens,
        metrics={
            **{name: Mean(jnp.sum(jnp.where(mask, x, 0.0)), num_tokens) for name, x in per_token.items()},
            **{name: Mean(jnp.sum(jnp.where(rows, x, 0.0)), num_rows) for name, x in per_row.items()},
        },
    )


def _sum_tokens(values: Array, mask: Array, aggregation: Aggregation) -> Array:
    """Sums [B T] values over the masked tokens; under "sequence_mean" each row is first divided by its length."""
    row_sums = jnp.sum(jnp.where(mask, values, 0.0), axis=1)
    if aggregation == "sequence_mean":
        row_sums = row_sums / jnp.maximum(jnp.sum(mask, axis=1, dtype=jnp.float32), 1.0)
    return jnp.sum(row_sums)


def _kl(log_ratio: Array, settings: GrpoSettings) -> Array:
    """Estimates KL(policy || reference) for each token from log(p/ref) [B T] of the token that was drawn."""
    if settings.kl_estimator == "k1":
        return log_ratio
    if settings.kl_estimator == "k2":
        return 0.5 * log_ratio**2
    inverse = jnp.clip(-log_ratio, -settings.log_ratio_limit, settings.log_ratio_limit)
    return jnp.expm1(inverse) - inverse
