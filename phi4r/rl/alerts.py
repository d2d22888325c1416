"""The healthy ranges of a GRPO run, and what is said outside them: in plain language, with the likely cause."""

import statistics
from collections.abc import Mapping, Sequence

from phi4r.train.guards import Alert

NEAR_CAP = 0.9  # share of the longest response that the mean comes to
TREND_STEPS = 20  # steps over which entropy and length are watched
STEPS_AHEAD = 30  # how early a length that grows towards the cap is announced
COLLAPSE = 0.2  # share of the entropy of TREND_STEPS before
SPREAD_STEPS = 10  # steps over which groups without spread are counted


def grpo_alerts(*, max_response: int, deadline_s: float, max_failed_share: float, float32: bool) -> tuple[Alert, ...]:
    """Returns what is said of a run's metrics, each once a run.

    Args:
      max_response: tokens after which responses are cut off.
      deadline_s: seconds that the judgement of one answer may take.
      max_failed_share: of the judgements of a step; where more fail, the run stops.
      float32: whether activations are float32, where sampler and trainer must agree closely.
    """
    return (
        *_exploration(),
        *_lengths(max_response),
        *_verifiers(deadline_s, max_failed_share),
        _logprob_gap(float32),
    )


def _exploration() -> tuple[Alert, ...]:
    """Entropy, and groups that teach nothing."""
    return (
        Alert(
            "entropy",
            lambda value: value < 0.01,
            "the entropy of the policy is {value:.2g} nats a token: it hardly explores any more. Raise "
            "grpo.entropy_gamma or lower optimizer.learning_rate.",
        ),
        Alert(
            "entropy",
            lambda value: value < COLLAPSE,
            f"the entropy of the policy has fallen to {{value:.0%}} of what it was {TREND_STEPS} steps before: it is "
            "collapsing.",
            window=TREND_STEPS,
            summary=change,
            cause=_cause_of_collapse,
        ),
        Alert(
            "zero_spread_share",
            lambda value: value >= 1.0,
            "in every group all responses were rewarded alike, so the step taught nothing. Take problems that the "
            "model solves now and then, or a larger grpo.group_size.",
            cause=_cause_of_no_spread,
        ),
        Alert(
            "zero_spread_share",
            lambda value: value > 0.75,
            f"in {{value:.0%}} of the groups of the last {SPREAD_STEPS} steps all responses were rewarded alike: most "
            "of the sampling taught nothing. Set max_refills and a curriculum, or take other problems.",
            window=SPREAD_STEPS,
            summary=statistics.fmean,
            cause=_cause_of_no_spread,
        ),
    )


def _lengths(max_response: int) -> tuple[Alert, ...]:
    """Responses that are cut off, or are going to be."""
    return (
        Alert(
            "clipped_share",
            lambda value: value > 0.8,
            "{value:.0%} of the responses were cut off before they ended, so hardly any could be right. Raise "
            "sampler.max_response, or check that the model ends its responses at all.",
            cause=_cause_of_clipping,
        ),
        Alert(
            "length",
            lambda value: value > NEAR_CAP * max_response,
            f"responses have {{value:,.0f}} tokens in the mean and come close to the cap of {max_response:,}. Raise "
            "sampler.max_response, or reward shorter ones.",
        ),
        Alert(
            "length",
            lambda value: value < STEPS_AHEAD,
            f"responses grow so fast that their mean comes to the cap of {max_response:,} tokens in {{value:.0f}} "
            "steps. Raise sampler.max_response, or reward shorter ones.",
            window=TREND_STEPS,
            summary=lambda lengths: steps_to_cap(lengths, max_response),
            cause=_cause_of_growth,
        ),
    )


def _verifiers(deadline_s: float, max_failed_share: float) -> tuple[Alert, ...]:
    """Judgements that were not reached; each of them counted as wrong."""
    return (
        Alert(
            "failed_share",
            lambda value: value > max_failed_share,
            "{value:.0%} of the judgements timed out or failed, more than "
            f"max_failed_share={max_failed_share:g}, so rewards say nothing about the responses. The rollout is on "
            "disk where rollouts are saved; see to the verifiers, or raise the bound.",
            stops=True,
        ),
        Alert(
            "timeout_share",
            lambda value: value > 0.01,
            "{value:.0%} of the judgements ran out of time and counted as wrong. Raise verifier_deadline_s "
            f"({deadline_s:g}), or leave the verifiers more cores.",
        ),
        Alert(
            "error_share",
            lambda value: value > 0.01,
            "{value:.0%} of the judgements failed and counted as wrong: a verifier crashes, or ran out of memory. The "
            "log names the responses; try the verifier on one of them.",
        ),
    )


def _logprob_gap(float32: bool) -> Alert:
    """Sampler and trainer that do not compute the same."""
    bound, dtype, usual = (1e-3, "float32", "1e-5") if float32 else (0.05, "bfloat16", "0.01")
    return Alert(
        "logprob_gap",
        lambda value: value > bound,
        f"log-probabilities of sampler and trainer differ by {{value:.2g}} a token, in {dtype} where {usual} is usual: "
        "they do not compute the same model. Look for what only one of them does (int8 weights or cache, another RoPE "
        "scaling), else please report it, with the config.",
    )


def change(values: Sequence[float]) -> float:
    """Returns the mean of the last quarter of a window as a share of the mean of its first quarter."""
    quarter = len(values) // 4
    before = statistics.fmean(values[:quarter])
    return statistics.fmean(values[-quarter:]) / before if before > 0 else float("nan")


def steps_to_cap(lengths: Sequence[float], cap: float) -> float:
    """Returns the steps until a line through the lengths comes to the cap; inf where they do not clearly grow.

    Clearly: by more than a twentieth of the cap over the window, and by more than the points scatter about the line.
    """
    steps = range(len(lengths))
    slope, start = statistics.linear_regression(steps, lengths)
    rise, end = slope * len(lengths), start + slope * len(lengths)
    scatter = statistics.fmean(abs(length - start - slope * step) for step, length in zip(steps, lengths, strict=True))
    if not rise > max(0.05 * cap, 2 * scatter):
        return float("inf")
    return max(cap - end, 0.0) / slope


def _cause_of_collapse(metrics: Mapping[str, float]) -> str:
    if metrics.get("accuracy", 0.0) > 0.9:
        return "Likely cause: it solves nearly all of these problems and has grown sure of itself; take harder ones."
    return "Likely cause: optimizer.learning_rate is too high, or grpo.entropy_gamma too small."


def _cause_of_no_spread(metrics: Mapping[str, float]) -> str:
    accuracy = metrics.get("accuracy", float("nan"))
    if metrics.get("failed_share", 0.0) > 0.5:
        return "Likely cause: the verifiers do not judge (see timeout_share and error_share)."
    if metrics.get("clipped_share", 0.0) > 0.8:
        return "Likely cause: the responses are cut off before they answer (see clipped_share)."
    if accuracy > 0.5:
        return f"Likely cause: the problems are too easy ({accuracy:.0%} of the responses are right)."
    return f"Likely cause: the problems are too hard ({accuracy:.0%} of the responses are right)."


def _cause_of_clipping(metrics: Mapping[str, float]) -> str:
    if metrics.get("reward_repetition", 0.0) < -0.5:
        return "Likely cause: they go round in circles (see reward_repetition)."
    if metrics["clipped_share"] >= 1.0:
        return "Likely cause: the model never writes its end token; check the chat template that it was trained with."
    return "Likely cause: the problems need more tokens than there is room for."


def _cause_of_growth(metrics: Mapping[str, float]) -> str:
    if metrics.get("reward_repetition", 0.0) < -0.5:
        return "Likely cause: they go round in circles (see reward_repetition)."
    if metrics.get("length_wrong", 0.0) > 1.5 * metrics.get("length_correct", float("inf")):
        return "Likely cause: wrong answers, which are much longer than right ones and lose less by length."
    return "Likely cause: longer answers are rewarded better, and reward.positive_control_length is too far to say no."
