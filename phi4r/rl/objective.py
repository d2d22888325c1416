"""The objective of GRPO and its family (section 4 of the paper), as sums with one division.

For a question the policy draws a group of G responses o_i. With r_t the ratio of the new to the old policy's
probability of token t, the objective that is maximised is

    mean_i 1/|o_i| sum_t [ min(r_t A_i, clip(r_t, 1 - eps_low, 1 + eps_high) A_i) - beta KL_t + gamma H_t ]

    A_i = (R_i - mean(R)) / (std(R) + advantage_eps)      over the group,

KL_t estimated against the frozen reference policy and H_t the entropy of the policy's distribution of token t. That is
the paper's; `GrpoSettings` names what others do instead: another ratio, another surrogate in place of the minimum,
another mean over tokens and responses.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.segments import segment_sums, spread_segments
from phi4r.rl.trajectories import Trajectories
from phi4r.train.step import LossSum, Max, Mean
from phi4r.typing import Array, Float, Params, typechecked


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
    the length of a response. Responses without trained tokens have weight 0. Sums over micro-batches add up to those
    of the whole batch, whatever their sizes, packing, padding and order.

    Args:
      logprobs: of the targets under the policy, at `settings.temperature`.
      entropy: of the policy's distribution of each target, in nats, at the same temperature.
      trajectories: what was sampled; nothing in it is differentiated.
      settings: constants and conventions.
    """
    responses = _responses(trajectories)
    mask = responses.mask
    ratio = _ratio(logprobs, trajectories, responses, settings)
    surrogate, clips = _surrogate(ratio, logprobs, trajectories.advantages, settings)
    weights, corrections = _importance(logprobs, trajectories, responses, settings)
    objective = weights * surrogate + settings.entropy_gamma * entropy
    per_token = {"entropy": entropy, "ratio": ratio, **clips, **_mismatch(logprobs, trajectories, settings)}
    if settings.kl_beta > 0.0 or trajectories.ref_logprobs is not None:
        kl = _kl(jnp.where(mask, logprobs - trajectories.ref_logprobs, 0.0), settings)
        objective = objective - settings.kl_beta * kl
        per_token["kl"] = kl
    total, weight = _aggregate(objective, responses, settings)
    per_response = {**corrections, "advantage_abs": responses.means(jnp.abs(trajectories.advantages))}
    return LossSum(
        total=-total,
        weight=weight,
        metrics={
            **{name: _mean(values, mask) for name, values in per_token.items()},
            **{name: _mean(values, responses.lengths > 0) for name, values in per_response.items()},
            **{f"{name}_max": _max(per_token[name], mask) for name in ("ratio", "logprob_gap")},
        },
    )


class _Responses(NamedTuple):
    """Which of the tokens of packed rows are of which response."""

    mask: Array  # [B T] bool: trained
    segment_ids: Array  # [B T]
    lengths: Array  # [B K]: trained tokens of each response, 0 where there is none

    def means(self, values: Array) -> Array:
        """Returns the mean of [B T] values over the trained tokens of each response, [B K]; of none it is 0."""
        sums = segment_sums(jnp.where(self.mask, values, 0.0), self.segment_ids)
        return sums / jnp.maximum(self.lengths, 1.0)

    def spread(self, values: Array) -> Array:
        """Returns for every token the value of its response, [B T] of [B K]."""
        return spread_segments(values, self.segment_ids)


def _responses(given: Trajectories) -> _Responses:
    mask, segment_ids = given.batch.loss_mask > 0, given.batch.segment_ids
    return _Responses(mask, segment_ids, segment_sums(mask.astype(given.advantages.dtype), segment_ids))


def _ratio(logprobs: Array, given: Trajectories, responses: _Responses, settings: GrpoSettings) -> Array:
    """Returns r [B T], of each token or of its response; 1 where nothing is trained."""
    log_ratio = jnp.where(responses.mask, logprobs - given.old, 0.0)
    if settings.ratio == "sequence":
        log_ratio = jnp.where(responses.mask, responses.spread(responses.means(log_ratio)), 0.0)
    return _exp(log_ratio, settings)


def _surrogate(
    ratio: Array, logprobs: Array, advantages: Array, settings: GrpoSettings
) -> tuple[Array, dict[str, Array]]:
    """Returns what is maximised of each token [B T], and where a bound took effect, by its name."""
    low, high = 1.0 - settings.clip_low, 1.0 + settings.clip_high
    clipped = jnp.clip(ratio, low, high)
    if settings.surrogate == "cispo":
        surrogate = jax.lax.stop_gradient(clipped) * advantages * logprobs
        return surrogate, {"clip_low": ratio < low, "clip_high": ratio > high}
    surrogate = jnp.minimum(ratio * advantages, clipped * advantages)
    clips = {
        "clip_low": (ratio < low) & (advantages < 0),
        "clip_high": (ratio > high) & (advantages > 0),
    }
    if settings.dual_clip:
        clips["clip_dual"] = (ratio > settings.dual_clip) & (advantages < 0)
        surrogate = jnp.where(advantages < 0, jnp.maximum(surrogate, settings.dual_clip * advantages), surrogate)
    return surrogate, clips


def _importance(
    logprobs: Array, given: Trajectories, responses: _Responses, settings: GrpoSettings
) -> tuple[Array | float, dict[str, Array]]:
    """Returns the detached weight of each token's surrogate [B T], and metrics of responses [B K]."""
    policy = logprobs if given.old_logprobs is None else given.old_logprobs
    mismatch = jax.lax.stop_gradient(jnp.where(responses.mask, policy - given.sampler_logprobs, 0.0))
    weights, metrics = 1.0, {}
    if settings.importance_cap:
        weights = jnp.minimum(_exp(mismatch, settings), settings.importance_cap)
    if settings.sequence_mask:
        outside = jnp.abs(responses.means(mismatch)) > math.log(settings.sequence_mask)
        weights = weights * responses.spread(1.0 - outside)
        metrics["masked_share"] = outside
    return weights, metrics


def _mismatch(logprobs: Array, given: Trajectories, settings: GrpoSettings) -> dict[str, Array]:
    """Returns how far the policy is from the one that sampled, [B T] each; see `update_metrics` for the squares."""
    mask = given.batch.loss_mask > 0
    log_ratio = jax.lax.stop_gradient(jnp.where(mask, logprobs - given.sampler_logprobs, 0.0))
    weights = _exp(log_ratio, settings)
    return {"logprob_gap": jnp.abs(log_ratio), "importance": weights, "importance_squared": weights**2}


def _kl(log_ratio: Array, settings: GrpoSettings) -> Array:
    """Estimates KL(policy || reference) for each token from log(p/ref) [B T] of the token that was drawn."""
    if settings.kl_estimator == "k1":
        return log_ratio
    if settings.kl_estimator == "k2":
        return 0.5 * log_ratio**2
    inverse = jnp.clip(-log_ratio, -settings.log_ratio_limit, settings.log_ratio_limit)
    return jnp.expm1(inverse) - inverse


def _aggregate(values: Array, responses: _Responses, settings: GrpoSettings) -> tuple[Array, Array]:
    """Returns the sum of [B T] values over the trained tokens, and what it is to be divided by."""
    num_responses = jnp.sum(responses.lengths > 0, dtype=jnp.float32)
    if settings.aggregation == "sequence_mean":
        return jnp.sum(responses.means(values)), num_responses
    total = jnp.sum(jnp.where(responses.mask, values, 0.0))
    if settings.aggregation == "token_mean":
        return total, jnp.sum(responses.mask, dtype=jnp.float32)
    return total / settings.length_constant, num_responses


def _exp(log_ratio: Array, settings: GrpoSettings) -> Array:
    """Returns exp of log-ratios that are clamped before, so that nothing overflows."""
    return jnp.exp(jnp.clip(log_ratio, -settings.log_ratio_limit, settings.log_ratio_limit))


def _mean(values: Array, mask: Array) -> Mean:
    """Returns the mean over where `mask` is true, in two parts."""
    return Mean(jnp.sum(jnp.where(mask, values, 0.0)), jnp.sum(mask, dtype=jnp.float32))


def _max(values: Array, mask: Array) -> Max:
    """Returns the largest of values that are not negative where `mask` is true."""
    return Max(jnp.max(jnp.where(mask, values, 0.0)))
