import pytest

from phi4r.rl.alerts import grpo_alerts

HEALTHY = {
    "entropy": 0.3,
    "clipped_share": 0.2,
    "zero_spread_share": 0.5,
    "length": 500.0,
    "timeout_share": 0.0,
    "logprob_gap": 1e-5,
}


def raised(metrics, *, float32=True):
    alerts = grpo_alerts(max_response=1000, deadline_s=5.0, float32=float32)
    return [alert.advice.format(value=metrics[a]) for alert in alerts if alert.unhealthy(metrics[a := alert.metric])]


def test_a_healthy_step_raises_none():
    assert raised(HEALTHY) == []
    assert raised(dict.fromkeys(HEALTHY, float("nan"))) == []


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("entropy", 0.009, "0.009 nats a token"),
        ("clipped_share", 0.81, "81% of the responses were cut off"),
        ("zero_spread_share", 1.0, "taught nothing"),
        ("length", 901.0, "901 tokens in the mean and come close to the cap of 1,000"),
        ("timeout_share", 0.02, "2% of the judgements ran out of time"),
        ("logprob_gap", 2e-3, "differ by 0.002 a token"),
    ],
)
def test_each_number_out_of_range_is_said_by_its_value(metric, value, said):
    [text] = raised({**HEALTHY, metric: value})
    assert said in text


def test_in_bfloat16_sampler_and_trainer_may_differ():
    assert raised({**HEALTHY, "logprob_gap": 2e-3}, float32=False) == []
