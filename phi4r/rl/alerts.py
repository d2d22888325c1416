"""The healthy ranges of a GRPO run, in plain language: what a researcher would want to be told."""

from phi4r.train.guards import Alert

NEAR_CAP = 0.9  # share of the longest response that the mean comes to


def grpo_alerts(*, max_response: int, deadline_s: float, float32: bool) -> tuple[Alert, ...]:
    """Returns what is said of a step's metrics, once a run each.

    Args:
      max_response: tokens after which responses are cut off.
      deadline_s: seconds that the judgement of one answer may take.
      float32: whether activations are float32, where sampler and trainer must agree closely.
    """
    alerts = (
        Alert(
            "entropy",
            lambda value: value < 0.01,
            "the entropy of the policy is {value:.2g} nats a token: it hardly explores any more. Raise "
            "grpo.entropy_gamma or lower optimizer.learning_rate.",
        ),
        Alert(
            "clipped_share",
            lambda value: value > 0.8,
            "{value:.0%} of the responses were cut off before they ended, so hardly any could be right. Raise "
            "sampler.max_response, or check that the model ends its responses at all.",
        ),
        Alert(
            "zero_spread_share",
            lambda value: value >= 1.0,
            "in every group all responses were rewarded alike, so the step taught nothing. Take problems that the "
            "model solves now and then, or a larger grpo.group_size.",
        ),
        Alert(
            "length",
            lambda value: value > NEAR_CAP * max_response,
            f"responses have {{value:,.0f}} tokens in the mean and come close to the cap of {max_response:,}. Raise "
            "sampler.max_response, or reward shorter ones.",
        ),
        Alert(
            "timeout_share",
            lambda value: value > 0.01,
            "{value:.0%} of the judgements ran out of time and counted as wrong. Raise verifier_deadline_s "
            f"({deadline_s:g}), or leave the verifiers more cores.",
        ),
    )
    if not float32:
        return alerts
    gap = Alert(
        "logprob_gap",
        lambda value: value > 1e-3,
        "log-probabilities of sampler and trainer differ by {value:.2g} a token, in float32 where 1e-5 is usual: they "
        "do not compute the same model. Please report it, with the config.",
    )
    return (*alerts, gap)
