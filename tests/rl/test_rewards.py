import jax
import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.rl.rewards import Rewards, RewardSettings, compute_rewards
from phi4r.settings import build


def reward(correct=True, length=100, complete=True, think_ok=True, repetition=0.0, settings=None) -> Rewards:
    """The rewards of one response, as Python numbers."""
    rewards = compute_rewards(
        np.array([correct]),
        np.array([length], np.int32),
        np.array([complete]),
        np.array([think_ok]),
        np.array([repetition], np.float32),
        settings or RewardSettings(),
    )
    return jax.tree.map(lambda x: float(x[0]), rewards)


GOLDEN = [  # RECIPE section 5
    (True, 0, 1.0),
    (True, 25600, 1.0),
    (True, 28672, 0.75),
    (True, 31744, 0.5),
    (False, 0, -1.0),
    (False, 1000, -0.915255),
    (False, 1851, -0.75),
    (False, 3000, -0.543065),
    (False, 3702, -0.5),
    (False, 31744, -0.5),
]


@pytest.mark.parametrize(("correct", "length", "expected"), GOLDEN)
def test_golden_points_of_the_paper(correct, length, expected):
    assert reward(correct, length).accuracy_scaled == pytest.approx(expected, abs=1e-6)


def test_a_batch_scores_like_its_rows():
    correct = np.array([row[0] for row in GOLDEN])
    lengths = np.array([row[1] for row in GOLDEN], np.int32)
    yes, zero = np.ones(len(GOLDEN), bool), np.zeros(len(GOLDEN), np.float32)
    batch = compute_rewards(correct, lengths, yes, yes, zero, RewardSettings())
    np.testing.assert_allclose(batch.accuracy_scaled, [row[2] for row in GOLDEN], atol=1e-6)
    np.testing.assert_array_equal(batch.accuracy, correct.astype(np.float32))


@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("length_aware", [True, False])
@pytest.mark.parametrize(
    ("complete", "think_ok", "expected"), [(False, True, -0.5), (True, False, -1.0), (False, False, -1.0)]
)
def test_format_overrides_whatever_the_verdict(correct, length_aware, complete, think_ok, expected):
    settings = RewardSettings(length_aware=length_aware)
    assert reward(correct, 28672, complete, think_ok, settings=settings).accuracy_scaled == expected


def test_both_format_errors_have_a_setting_of_their_own():
    settings = RewardSettings(incomplete_and_think_missing=-0.25)
    assert reward(complete=False, think_ok=False, settings=settings).accuracy_scaled == -0.25
    assert reward(complete=True, think_ok=False, settings=settings).accuracy_scaled == -1.0
    assert reward(complete=False, think_ok=True, settings=settings).accuracy_scaled == -0.5


def test_final_weights_are_8_and_1_thirteenths_and_not_normalised():
    assert reward().total == pytest.approx(0.615385, abs=1e-6)
    assert reward(repetition=-1.0).total == pytest.approx(0.538462, abs=1e-6)
    assert reward(False, 0, repetition=-0.5).total == pytest.approx(-0.653846, abs=1e-6)


def test_accuracy_is_the_raw_verdict_even_where_the_format_overrides():
    assert reward(True, complete=False, think_ok=False).accuracy == 1.0
    assert reward(False).accuracy == 0.0


@pytest.mark.parametrize("length", [0, 3000, 28672, 31744])
def test_plain_control_ignores_length(length):
    settings = RewardSettings(length_aware=False)
    assert reward(True, length, settings=settings).accuracy_scaled == 1.0
    assert reward(False, length, settings=settings).accuracy_scaled == -1.0


def test_lengths_scale_in_config():
    # A hundredth of the paper's lengths would be 317.44, 256, 37.02; the half-way point of each slope is unchanged.
    settings = build(
        RewardSettings,
        {"max_length": 300, "positive_control_length": 200, "negative_control_length": 40},
        where="config.reward",
    )
    assert reward(True, 250, settings=settings).accuracy_scaled == pytest.approx(0.75, abs=1e-6)
    assert reward(False, 20, settings=settings).accuracy_scaled == pytest.approx(-0.75, abs=1e-6)


def test_responses_longer_than_the_maximum_keep_the_last_value():
    assert reward(True, 40000).accuracy_scaled == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    "lengths",
    [{"max_length": 25600}, {"positive_control_length": -1}, {"negative_control_length": 0}],
)
def test_lengths_out_of_order_are_refused(lengths):
    with pytest.raises(UserError, match="reward"):
        RewardSettings(**lengths)
