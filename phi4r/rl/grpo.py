"""GRPO and its family: the conventions in which the published objectives differ, a named switch each.

`phi4r.rl.advantages` compares the responses of a group, `phi4r.rl.objective` is the loss; the values of the published
ones (paper, DAPO, Dr. GRPO, GSPO, CISPO, RLOO) are in `configs/common.py`.
"""

import dataclasses
from typing import Literal

from phi4r.errors import UserError
from phi4r.rl.advantages import Baseline, GroupStd

RatioLevel = Literal["token", "sequence"]
Aggregation = Literal["sequence_mean", "token_mean", "constant_length"]
Surrogate = Literal["clip", "cispo"]
KlEstimator = Literal["k1", "k2", "k3"]
OldLogprobs = Literal["sampler", "trainer"]
Overlong = Literal["train", "filter"]


@dataclasses.dataclass(frozen=True)
class GrpoSettings:
    """Constants and conventions of GRPO. Frameworks differ in the conventions, so each one is named.

    Attributes:
      group_size: G, responses to a problem.
      surrogate: "clip", min(r A, clip(r) A), whose clipped tokens have no gradient; "cispo", sg(clip(r)) A log p, in
        which every token keeps one and only its weight is clipped (MiniMax-M1, 2506.13585; sg stops the gradient).
      ratio: r is that of a "token", or one for the whole response, the geometric mean of its tokens' ("sequence";
        GSPO, 2507.18071).
      clip_low: r counts as no less than 1 - clip_low; 1 for no bound.
      clip_high: r counts as no more than 1 + clip_high; above `clip_low` in DAPO ("clip higher", 2503.14476).
      dual_clip: c, a token of a bad response counts for no less than c A, however much likelier it became (Ye et al.,
        1912.09729); 0 for no bound.
      kl_beta: beta, weight of the KL penalty; with 0 there is no reference policy, in memory or in time.
      entropy_gamma: gamma, weight of the entropy bonus.
      baseline: what a reward is compared with: the "mean" of its group, or the mean of the others, "leave_one_out"
        (RLOO, 2402.14740).
      group_std: what an advantage is divided by: the "population" (1/G) or "sample" (1/(G-1)) standard deviation
        of its group, or "none".
      advantage_eps: added to that standard deviation.
      aggregation: "sequence_mean", as printed in the paper: the mean of a response's tokens, then of the responses;
        "token_mean": all tokens of the batch weigh the same, so long responses weigh more (DAPO); "constant_length":
        the sum of a response's tokens over `length_constant`, then the mean of the responses (Dr. GRPO, 2503.20783).
      length_constant: that of "constant_length", in tokens, usually `sampler.max_response`; else 0.
      kl_estimator: "k1" log(p/ref): unbiased, but as a term of a loss its expected gradient is zero; "k2" half its
        square; "k3" ref/p - 1 - log(ref/p): unbiased and never negative.
      temperature: of the rollouts, and of every log-probability of policy and reference. One number, because a
        trainer that scores at another temperature than the sampler drew optimises another policy.
      log_ratio_limit: log-ratios are clamped to plus or minus this before exp; at 20 nothing overflows in float32.
      updates_per_rollout: updates on a rollout, each on so many of its groups; the order is one of seed and step.
      old_logprobs: what r compares with: the log-probabilities of the "sampler", so that r corrects for all that
        policy and sampler differ in; or those of the "trainer" before the first update, which cost a pass over the
        rollout, so that r is exactly 1 there and the sampler's rounding is left to `importance_cap`.
      importance_cap: C, each token's surrogate is weighted with min(C, old/sampler), detached: truncated importance
        sampling, at the level of tokens. Needs old_logprobs="trainer"; 0 for no weights.
      sequence_mask: b, the surrogate of a response counts for nothing where the geometric mean of its tokens'
        old/sampler (policy/sampler with old_logprobs="sampler") is outside [1/b, b]; 0 for no mask. A product
        over tokens would mask every long response.
      overlong: "train" on responses that were cut off, or "filter" them out: they keep their place in the group's
        mean and are not trained on. DAPO's soft penalty is the part "overlong" of the reward.
      max_logprob_gap: nats; a run stops where |log p - log p of the sampler| before the first update of a rollout is
        more in the mean over tokens, for then the two do not compute the same policy. About 1e-6 in float32 and 1e-2
        in bfloat16; 0 never stops. Rollouts of an older policy (`GrpoRunSettings.pipeline`) are not looked at.
    """

    group_size: int = 8  # section 4
    surrogate: Surrogate = "clip"  # section 4
    ratio: RatioLevel = "token"  # section 4
    clip_low: float = 0.2  # not in the paper
    clip_high: float = 0.2  # not in the paper
    dual_clip: float = 0.0  # not in the paper
    kl_beta: float = 0.001  # section 4
    entropy_gamma: float = 0.001  # section 4
    baseline: Baseline = "mean"  # section 4
    group_std: GroupStd = "population"  # not in the paper
    advantage_eps: float = 1e-6  # not in the paper
    aggregation: Aggregation = "sequence_mean"  # section 4
    length_constant: int = 0  # not in the paper
    kl_estimator: KlEstimator = "k3"  # not in the paper
    temperature: float = 1.0  # not in the paper
    log_ratio_limit: float = 20.0  # not in the paper
    updates_per_rollout: int = 1  # not in the paper
    old_logprobs: OldLogprobs = "sampler"  # not in the paper
    importance_cap: float = 0.0  # not in the paper
    sequence_mask: float = 0.0  # not in the paper
    overlong: Overlong = "train"  # section 4
    max_logprob_gap: float = 0.1  # not in the paper

    def __post_init__(self):
        self._check_values()
        self._check_pairs()

    def _check_values(self) -> None:
        """Refuses a value that makes no sense by itself."""
        if self.group_size < 2:
            raise UserError(f"grpo.group_size={self.group_size} leaves nothing to compare with; give 2 or more.")
        if not 0.0 < self.clip_low <= 1.0:
            raise UserError(f"grpo.clip_low={self.clip_low} must be more than 0 and at most 1 (no bound below).")
        if self.clip_high <= 0.0:
            raise UserError(f"grpo.clip_high={self.clip_high} must be positive; 0.2 is usual, DAPO has 0.28.")
        if self.temperature <= 0.0:
            raise UserError(f"grpo.temperature={self.temperature} must be positive: greedy groups have no spread.")
        if self.log_ratio_limit <= 0.0 or self.advantage_eps < 0.0:
            raise UserError("grpo.log_ratio_limit must be positive and grpo.advantage_eps not negative.")
        if self.kl_beta < 0.0:
            raise UserError(f"grpo.kl_beta={self.kl_beta} rewards the distance from the reference; give 0 or more.")
        if self.updates_per_rollout < 1:
            raise UserError(f"grpo.updates_per_rollout={self.updates_per_rollout} must be at least 1.")
        for name, usual in (("dual_clip", "3"), ("importance_cap", "2"), ("sequence_mask", "1.01 or less")):
            value = getattr(self, name)
            if value != 0.0 and value <= 1.0:
                raise UserError(f"grpo.{name}={value} must be more than 1, or 0 for no bound; {usual} is usual.")
        if self.max_logprob_gap < 0.0:
            raise UserError(f"grpo.max_logprob_gap={self.max_logprob_gap} must be positive, or 0 to never stop.")

    def _check_pairs(self) -> None:
        """Refuses settings that contradict one another."""
        if self.surrogate == "cispo" and self.dual_clip:
            raise UserError(
                "grpo.dual_clip bounds the surrogate 'clip'; 'cispo' has its weights between clip_low and clip_high "
                "already. Set grpo.dual_clip=0."
            )
        if (self.aggregation == "constant_length") != (self.length_constant > 0):
            raise UserError(
                f"grpo.aggregation={self.aggregation!r} and grpo.length_constant={self.length_constant}: "
                "'constant_length' needs the constant (usually sampler.max_response), and nothing else has one."
            )
        if self.baseline == "leave_one_out" and self.group_std != "none":
            raise UserError(
                f"grpo.baseline='leave_one_out' with grpo.group_std={self.group_std!r}: the standard deviation has the "
                "response's own reward in it, which this baseline is there to leave out. Set grpo.group_std='none'."
            )
        if self.importance_cap and self.old_logprobs == "sampler":
            raise UserError(
                "grpo.importance_cap corrects for what old_logprobs='sampler' has in its ratio already; set "
                "grpo.old_logprobs='trainer', or grpo.importance_cap=0."
            )
