import jax
import numpy as np
import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.rl.reward_parts import RewardPart, part_verifiers
from phi4r.rl.rewards import Rewards, RewardSettings, compute_rewards
from phi4r.settings import build
from phi4r.verifiers import IntegerVerifier, MathVerifier


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
    assert reward(correct, length).parts["accuracy"] == pytest.approx(expected, abs=1e-6)


def test_a_batch_scores_like_its_rows():
    correct = np.array([row[0] for row in GOLDEN])
    lengths = np.array([row[1] for row in GOLDEN], np.int32)
    yes, zero = np.ones(len(GOLDEN), bool), np.zeros(len(GOLDEN), np.float32)
    batch = compute_rewards(correct, lengths, yes, yes, zero, RewardSettings())
    np.testing.assert_allclose(batch.parts["accuracy"], [row[2] for row in GOLDEN], atol=1e-6)
    np.testing.assert_array_equal(batch.accuracy, correct.astype(np.float32))


@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("length_aware", [True, False])
@pytest.mark.parametrize(
    ("complete", "think_ok", "expected"), [(False, True, -0.5), (True, False, -1.0), (False, False, -1.0)]
)
def test_format_overrides_whatever_the_verdict(correct, length_aware, complete, think_ok, expected):
    settings = RewardSettings(length_aware=length_aware)
    assert reward(correct, 28672, complete, think_ok, settings=settings).parts["accuracy"] == expected


def test_both_format_errors_have_a_setting_of_their_own():
    settings = RewardSettings(incomplete_and_think_missing=-0.25)
    assert reward(complete=False, think_ok=False, settings=settings).parts["accuracy"] == -0.25
    assert reward(complete=True, think_ok=False, settings=settings).parts["accuracy"] == -1.0
    assert reward(complete=False, think_ok=True, settings=settings).parts["accuracy"] == -0.5


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
    assert reward(True, length, settings=settings).parts["accuracy"] == 1.0
    assert reward(False, length, settings=settings).parts["accuracy"] == -1.0


def test_lengths_scale_in_config():
    # A hundredth of the paper's lengths would be 317.44, 256, 37.02; the half-way point of each slope is unchanged.
    settings = build(
        RewardSettings,
        {"max_length": 300, "positive_control_length": 200, "negative_control_length": 40},
        where="config.reward",
    )
    assert reward(True, 250, settings=settings).parts["accuracy"] == pytest.approx(0.75, abs=1e-6)
    assert reward(False, 20, settings=settings).parts["accuracy"] == pytest.approx(-0.75, abs=1e-6)


def test_responses_longer_than_the_maximum_keep_the_last_value():
    assert reward(True, 40000).parts["accuracy"] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    "lengths",
    [{"max_length": 25600}, {"positive_control_length": -1}, {"negative_control_length": 0}],
)
def test_lengths_out_of_order_are_refused(lengths):
    with pytest.raises(UserError, match="reward"):
        RewardSettings(**lengths)


# Parts by name


def test_the_default_is_the_sum_of_the_paper_to_the_last_bit():
    lengths = np.arange(0, 32000, 7, dtype=np.int32)
    correct, complete, think_ok = (np.arange(len(lengths)) % k > 0 for k in (2, 11, 7))
    repetition = -np.linspace(0, 5, len(lengths), dtype=np.float32)
    settings = RewardSettings()

    @jax.jit
    def paper(scaled, repetition):
        return 8 / 13 * scaled + 1 / 13 * repetition

    rewards = compute_rewards(correct, lengths, complete, think_ok, repetition, settings)
    assert list(rewards.parts) == ["accuracy", "repetition"]
    np.testing.assert_array_equal(rewards.total, paper(rewards.parts["accuracy"], repetition))


def composed(*parts, **changes):
    return RewardSettings(parts=tuple(RewardPart(name, weight) for name, weight in parts), **changes)


def test_parts_are_added_up_with_their_weights():
    settings = composed(("correct", 1.0), ("format", 0.25), ("repetition", 0.5))
    rewards = reward(True, think_ok=False, repetition=-2.0, settings=settings)
    assert rewards.parts == {"correct": 1.0, "format": 0.0, "repetition": -2.0}
    assert rewards.total == 1.0 - 1.0
    assert reward(False, settings=settings).total == 0.25
    assert reward(True, complete=False, settings=settings).parts["format"] == 0.0


@pytest.mark.parametrize(("length", "penalty"), [(0, 0.0), (60, 0.0), (70, -0.25), (100, -1.0), (120, -1.0)])
def test_the_soft_penalty_falls_over_the_buffer_before_the_cap(length, penalty):
    lengths = {"max_length": 100, "positive_control_length": 50, "negative_control_length": 10}
    settings = composed(("overlong", 1.0), overlong_buffer=40, **lengths)
    assert reward(length=length, settings=settings).total == penalty


def test_scores_of_verifiers_are_parts_too():
    settings = RewardSettings(parts=(RewardPart("math", 0.5), RewardPart("units", 2.0, verifier="my:Units")))
    scores = {"math": np.array([0.0, 1.0], np.float32), "units": np.array([0.25, 0.5], np.float32)}
    two = np.ones(2, bool), np.zeros(2, np.int32), np.ones(2, bool), np.ones(2, bool), np.zeros(2, np.float32)
    rewards = compute_rewards(*two, settings=settings, scores=scores)
    np.testing.assert_array_equal(rewards.total, [0.5, 1.5])
    np.testing.assert_array_equal(rewards.parts["units"], scores["units"])


def test_a_config_names_parts_as_sections():
    section = {"parts": ({"name": "correct", "weight": 1}, {"name": "math", "fields": {"thinking": True}})}
    settings = build(RewardSettings, section, where="config.reward")
    assert settings.parts == (RewardPart("correct", 1.0), RewardPart("math", 1.0, fields={"thinking": True}))
    hash(settings)


def test_an_unknown_part_is_refused_with_the_known_ones():
    known = "accuracy, repetition, correct, format, overlong, integer, math, and any other name with verifier="
    with pytest.raises(UserError, match=f"'acuracy' is not a part of a reward; known are {known}"):
        RewardPart("acuracy")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": ()}, "at least one part"),
        ({"parts": (RewardPart("correct"), RewardPart("correct", 0.5))}, "each once"),
        ({"parts": (RewardPart("overlong"),), "overlong_buffer": 0}, "overlong_buffer=0"),
    ],
)
def test_parts_without_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        RewardSettings(**settings)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"name": "math", "verifier": "my:Verifier"}, "'math' has a meaning already"),
        ({"name": "accuracy", "reference": "tests"}, "'accuracy' takes neither"),
        ({"name": "format", "fields": {"strict": True}}, "'format' takes neither"),
    ],
)
def test_a_part_that_contradicts_itself_is_refused(part, message):
    with pytest.raises(UserError, match=message):
        RewardPart(**part)


PROBLEMS = [Problem("a", "1 + 1 =", "2", {"unit": "apples"}), Problem("b", "1 + 2 =", "3", {"unit": "pears"})]


def test_verifiers_are_found_by_name_and_by_place():
    parts = [
        RewardPart("accuracy"),
        RewardPart("integer", fields={"max_digits": 3}),
        RewardPart("mine", verifier="phi4r.verifiers:MathVerifier", fields={"thinking": True}, reference="unit"),
    ]
    verifiers = part_verifiers(parts, PROBLEMS)
    assert verifiers == {"integer": IntegerVerifier(max_digits=3), "mine": MathVerifier(thinking=True)}
    assert [part.reference_of(PROBLEMS[1]) for part in parts[1:]] == ["3", "pears"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"verifier": "no.such.module:Verifier"}, "'no.such.module:Verifier' of 'mine' cannot be imported"),
        ({"verifier": "phi4r.verifiers:NoVerifier"}, "cannot be imported"),
        ({"verifier": "MathVerifier"}, "cannot be imported"),
        ({"verifier": "phi4r.verifiers:final_answer"}, "is no dataclass"),
        ({"verifier": "phi4r.verifiers:MathVerifier", "fields": {"thinkin": True}}, "did you mean .*thinking"),
        ({"verifier": "phi4r.verifiers:MathVerifier", "reference": "tests"}, r"meta\['tests'\].* 2 of 2 .*first a"),
    ],
)
def test_a_verifier_that_cannot_be_used_is_refused_before_the_run(part, message):
    with pytest.raises(UserError, match=message):
        part_verifiers([RewardPart("mine", **part)], PROBLEMS)
