"""Drafts by prompt lookup: what is guessed, and that guesses change how many steps are made and nothing else."""

import jax
import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.sampling import FINISH_STOP, SamplingParams
from phi4r.sampling.lookup import look_up_drafts
from phi4r.sharding import MeshSettings, make_mesh

from .conftest import EOS, PROMPTS

KEY = jax.random.key(11)
G = 3
GREEDY = SamplingParams(temperature=0.0)


@pytest.mark.parametrize(
    ("sequence", "expected"),
    [
        ([5, 6, 7, 8, 5, 6], [7, 8, 5]),  # what followed "5 6"
        ([1, 5, 6, 9, 5, 6, 2, 5, 6], [2, 5, 6]),  # the latest of equal matches
        ([4, 5, 6, 9, 5, 6, 2, 4, 5, 6], [9, 5, 6]),  # the longer match before the later one
        ([3, 8, 8, 8], [8, 8, 8]),  # a loop goes on with itself
        ([7, 1, 2, 1, 2], [1, 2, 1]),
        ([6, 4, 6], [4, 6, 4]),  # one token is a match
        ([1, 2, 3], [-1, -1, -1]),  # 3 never stood there
        ([9], [-1, -1, -1]),
    ],
    ids=str,
)
def test_what_followed_the_newest_tokens_is_guessed(sequence, expected):
    history = np.array([sequence + [8, 5, 6] * 3], np.int32)[:, :12]  # what lies beyond the known tokens means nothing
    got = look_up_drafts(history, np.array([len(sequence)], np.int32), 3)
    assert np.asarray(got)[0].tolist() == expected


def test_every_sequence_has_guesses_of_its_own():
    history = np.array([[5, 6, 5, 0], [5, 6, 7, 5], [1, 2, 3, 0]], np.int32)
    got = look_up_drafts(history, np.array([3, 4, 3], np.int32), 2)
    assert np.asarray(got).tolist() == [[6, 5], [6, 7], [-1, -1]]


def assert_same(samples, expected):
    for name in ("tokens", "segment_ids", "response_mask", "finish_reason"):
        np.testing.assert_array_equal(getattr(samples, name), getattr(expected, name), err_msg=name)
    np.testing.assert_allclose(samples.logprobs, expected.logprobs, atol=1e-5)
    np.testing.assert_allclose(samples.entropies, expected.entropies, atol=1e-5)


@pytest.fixture(scope="module")
def long(policy):
    """A sampler whose responses are long enough to repeat themselves."""
    return policy.sampler(max_response=40, burst=5)


@pytest.mark.parametrize(
    "sampling",
    [GREEDY, SamplingParams(), SamplingParams(temperature=0.3, top_k=4), SamplingParams(max_thought=7)],
    ids=["greedy", "drawn", "narrow", "forced"],
)
@pytest.mark.parametrize("draft_tokens", [1, 4])
def test_the_same_tokens_are_drawn_with_guesses(policy, unrolled, long, draft_tokens, sampling):
    """In batches of two sizes: 16 rows without guesses, then 8 with them."""
    drafting = policy.sampler(max_response=40, burst=5, num_slots=16, draft_tokens=draft_tokens)
    samples = drafting.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=sampling)
    assert_same(samples, long.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=sampling))
    assert (samples.finish_reason == FINISH_STOP).any()


def test_a_response_that_repeats_itself_takes_fewer_steps(policy, unrolled, long):
    expected = long.sample(unrolled, PROMPTS, KEY, sampling=GREEDY)
    assert long.stats.tokens_per_step == 1.0
    drafting = policy.sampler(max_response=40, burst=5, num_slots=1, draft_tokens=4)
    assert_same(drafting.sample(unrolled, PROMPTS, KEY, sampling=GREEDY), expected)
    assert drafting.stats.tokens_per_step > 1.5
    assert drafting.stats.steps * drafting.stats.tokens_per_step == pytest.approx(expected.lengths.sum())


def test_limits_and_end_tokens_inside_a_guess_end_the_response(policy, unrolled, long):
    """Every limit from 1 on, so that some fall on each place of a guess."""
    limits = [1 + i for i in range(len(PROMPTS) * G)]
    drafting = policy.sampler(max_response=40, burst=5, num_slots=8, draft_tokens=3)
    samples = drafting.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=GREEDY, limits=limits)
    assert_same(samples, long.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=GREEDY, limits=limits))
    assert np.all(samples.lengths <= limits) and np.any(samples.lengths == limits)
    stopped = samples.finish_reason == FINISH_STOP
    assert np.all((samples.tokens == EOS).sum(axis=1) == stopped)


def test_sequences_that_lose_their_pages_guess_on(policy, unrolled, long):
    drafting = policy.sampler(max_response=40, burst=5, num_slots=8, cache_tokens=4 * 24, draft_tokens=3)
    samples = drafting.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=GREEDY)
    assert_same(samples, long.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=GREEDY))
    assert drafting.stats.evictions > 0


def test_the_devices_of_a_mesh_guess_the_same(policy, unrolled, long):
    mesh = make_mesh(MeshSettings(data=2, fsdp=2, tensor=2), heads=policy.config.heads)
    drafting = policy.sampler(max_response=40, burst=5, num_slots=8, draft_tokens=3, mesh=mesh)
    with jax.set_mesh(mesh):
        samples = drafting.sample(drafting.unroll(policy.params), PROMPTS, KEY, sampling=GREEDY)
    assert_same(samples, long.sample(unrolled, PROMPTS, KEY, sampling=GREEDY))
    assert drafting.stats.tokens_per_step > 1.0


def test_fewer_than_no_guesses_are_refused(policy):
    with pytest.raises(UserError, match="draft_tokens=-1"):
        policy.sampler(draft_tokens=-1)
