import math

import pytest

from phi4r.errors import UserError
from phi4r.rl.alerts import change, grpo_alerts, steps_to_cap
from phi4r.train.guards import Guards, GuardSettings

HEALTHY = {
    "finite": 1.0,
    "loss": 0.0,
    "entropy": 0.3,
    "accuracy": 0.4,
    "clipped_share": 0.2,
    "zero_spread_share": 0.5,
    "length": 500.0,
    "length_correct": 450.0,
    "length_wrong": 550.0,
    "reward_repetition": 0.0,
    "timeout_share": 0.0,
    "error_share": 0.0,
    "failed_share": 0.0,
    "logprob_gap": 1e-5,
}


def watch(tmp_path, capsys, *steps, float32=True, resume_at=None):
    """What is said of a stream of steps, each HEALTHY with changes."""
    alerts = grpo_alerts(max_response=1000, deadline_s=5.0, max_failed_share=0.5, float32=float32)
    guards = Guards(GuardSettings(spike_factor=0.0), tmp_path, alerts)
    for number, changes in enumerate(steps):
        if number == resume_at:
            memory, guards = guards.state(), Guards(GuardSettings(spike_factor=0.0), tmp_path, alerts)
            guards.resume(memory)
        guards.check(number, HEALTHY | changes, {})
    return capsys.readouterr().err.splitlines()


def test_a_healthy_run_raises_none(tmp_path, capsys):
    assert watch(tmp_path, capsys, *[{}] * 30) == []
    empty = dict.fromkeys(HEALTHY, float("nan")) | {"finite": 1.0}
    assert watch(tmp_path, capsys, *[empty] * 30) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"entropy": 0.009}, ["0.009 nats a token"]),
        ({"clipped_share": 0.81}, ["81% of the responses were cut off", "more tokens than there is room for"]),
        ({"clipped_share": 1.0}, ["100% of the responses were cut off", "never writes its end token"]),
        ({"clipped_share": 0.9, "reward_repetition": -1.0}, ["go round in circles"]),
        ({"zero_spread_share": 1.0, "accuracy": 0.99}, ["taught nothing", "too easy (99% of the responses are right)"]),
        ({"zero_spread_share": 1.0, "accuracy": 0.01}, ["taught nothing", "too hard (1% of the responses are right)"]),
        ({"length": 901.0}, ["901 tokens in the mean and come close to the cap of 1,000"]),
        ({"timeout_share": 0.02}, ["2% of the judgements ran out of time", "verifier_deadline_s (5)"]),
        ({"error_share": 0.02}, ["2% of the judgements failed"]),
        ({"logprob_gap": 2e-3}, ["differ by 0.002 a token, in float32 where 1e-5 is usual"]),
    ],
)
def test_a_number_out_of_range_is_said_once_by_its_value(tmp_path, capsys, changes, said):
    [line] = watch(tmp_path, capsys, {}, changes, {}, changes)
    assert line.startswith("phi4r: step 1: ") and line.endswith("(Said once a run.)")
    for part in said:
        assert part in line


def test_groups_without_spread_blame_what_made_them_alike(tmp_path, capsys):
    alike = {"zero_spread_share": 1.0, "accuracy": 0.0}
    with pytest.raises(UserError, match=r"60% of the judgements timed out or failed, more than .*=0\.5"):
        watch(tmp_path, capsys, {**alike, "failed_share": 0.6})
    assert "the verifiers do not judge" in capsys.readouterr().err
    lines = watch(tmp_path, capsys, {**alike, "clipped_share": 1.0})
    assert any("cut off before they answer" in line for line in lines)


def test_in_bfloat16_sampler_and_trainer_may_differ(tmp_path, capsys):
    assert watch(tmp_path, capsys, {"logprob_gap": 2e-2}, float32=False) == []
    [line] = watch(tmp_path, capsys, {"logprob_gap": 0.06}, float32=False)
    assert "differ by 0.06 a token, in bfloat16 where 0.01 is usual" in line


# Courses


@pytest.mark.parametrize("resume_at", [None, 12])
def test_an_entropy_that_falls_to_a_fifth_in_twenty_steps_collapses(tmp_path, capsys, resume_at):
    halving = [{"entropy": 0.8 * 0.85**step} for step in range(22)]  # 15 steps between the quarters: 0.85^15 = 9%
    [line] = watch(tmp_path, capsys, *halving, resume_at=resume_at)
    assert line.startswith("phi4r: step 19: the entropy of the policy has fallen to 9%")
    assert "optimizer.learning_rate is too high" in line
    sure = [changes | {"accuracy": 0.95} for changes in halving]
    assert "take harder ones" in watch(tmp_path, capsys, *sure)[0]


def test_an_entropy_that_falls_slowly_is_healthy(tmp_path, capsys):
    assert watch(tmp_path, capsys, *[{"entropy": 0.8 * 0.95**step} for step in range(40)]) == []


def test_a_length_that_marches_to_the_cap_is_announced_before_it_is_there(tmp_path, capsys):
    # At step n the line comes to 300 + 10 (n + 1) for the next step and has 69 - n to go: fewer than 30 at n = 40.
    lines = watch(tmp_path, capsys, *[{"length": 300.0 + 10 * step} for step in range(56)])
    assert [line.split(":")[1] for line in lines] == [" step 40"]
    assert "comes to the cap of 1,000 tokens in 29 steps" in lines[0]
    assert "longer answers are rewarded better" in lines[0]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [({"length_wrong": 900.0}, "wrong answers, which are much longer"), ({"reward_repetition": -2.0}, "in circles")],
)
def test_growing_responses_have_their_likely_cause(tmp_path, capsys, changes, cause):
    [line] = watch(tmp_path, capsys, *[{"length": 100.0 + 35 * step} | changes for step in range(21)])
    assert cause in line


def test_a_length_that_wanders_is_healthy(tmp_path, capsys):
    assert watch(tmp_path, capsys, *[{"length": 700.0 + 100 * (-1) ** step} for step in range(60)]) == []


def test_mostly_flat_groups_are_said_after_ten_steps(tmp_path, capsys):
    lines = watch(tmp_path, capsys, *[{"zero_spread_share": 0.8}] * 12)
    assert [line.split(":")[1] for line in lines] == [" step 9"]
    assert "in 80% of the groups of the last 10 steps" in lines[0] and "too hard (40%" in lines[0]


def test_the_change_over_a_window_compares_its_ends():
    assert change([4.0, 2.0, 9.0, 9.0, 9.0, 9.0, 1.0, 0.5]) == pytest.approx(0.25)
    assert math.isnan(change([0.0] * 8))


def test_steps_to_the_cap_follow_the_line():
    assert steps_to_cap([100.0, 200.0, 300.0, 400.0], 1000) == pytest.approx(5.0)  # 500 at the next step, 500 to go
    assert steps_to_cap([400.0, 300.0, 200.0, 100.0], 1000) == math.inf
    assert steps_to_cap([900.0, 1000.0, 1100.0, 1200.0], 1000) == 0.0
