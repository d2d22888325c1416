"""What is in the rows of Samples: layout, masks, finish reasons, log-probabilities."""

import functools

import jax
import numpy as np
import pytest

from phi4r.model.inputs import make_token_batch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer, unembed
from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, SamplingParams

from .conftest import EOS, PAD, PROMPTS

KEY = jax.random.key(5)
NUM_SAMPLES = 4


@pytest.fixture(scope="module")
def samples(sampler, unrolled):
    """Eight prompts with four responses each at temperature 1."""
    return sampler.sample(unrolled, PROMPTS, KEY, num_samples=NUM_SAMPLES)


def test_both_ways_to_finish_occur(samples):
    assert set(samples.finish_reason) == {FINISH_STOP, FINISH_LENGTH}  # or the tests below would say little
    assert len(set(samples.lengths)) > 4


def test_a_row_is_padding_prompt_response_padding(samples):
    for row in range(len(samples.tokens)):
        prompt, length = PROMPTS[row // NUM_SAMPLES], samples.lengths[row]
        expected = np.zeros(16, bool)
        expected[6 : 6 + length] = True
        np.testing.assert_array_equal(samples.response_mask[row], expected)
        expected[6 - len(prompt) : 6] = True
        np.testing.assert_array_equal(samples.segment_ids[row], expected.astype(np.int32))
        assert samples.tokens[row, 6 - len(prompt) : 6].tolist() == prompt
        assert np.all(samples.tokens[row][samples.segment_ids[row] == 0] == PAD)


def test_a_response_stops_at_its_first_end_token_which_counts(samples):
    for tokens, mask, reason in zip(samples.tokens, samples.response_mask, samples.finish_reason, strict=True):
        response = tokens[mask].tolist()
        if reason == FINISH_STOP:
            assert response.index(EOS) == len(response) - 1
        else:
            assert len(response) == 10 and EOS not in response


def test_an_end_token_at_the_last_place_is_a_stop(sampler, unrolled, samples):
    row = next(i for i, length in enumerate(samples.lengths) if 1 < length < 10)
    length = int(samples.lengths[row])
    limited = SamplingParams(max_tokens=length)
    cut = sampler.sample(unrolled, PROMPTS, KEY, num_samples=NUM_SAMPLES, sampling=limited)
    assert (cut.lengths[row], cut.finish_reason[row]) == (length, FINISH_STOP)
    assert cut.lengths.max() == length and FINISH_LENGTH in cut.finish_reason


@pytest.mark.parametrize("temperature", [1.0, 0.8])
def test_log_probabilities_of_the_cached_decoder_are_those_of_the_trainer(policy, sampler, unrolled, temperature):
    sampling = SamplingParams(temperature=temperature)
    samples = sampler.sample(unrolled, PROMPTS, KEY, num_samples=NUM_SAMPLES, sampling=sampling)
    batch = make_token_batch(samples.tokens, samples.segment_ids, samples.response_mask)
    scored, _ = jax.jit(functools.partial(token_logprobs, Transformer(policy.config), chunk_size=7))(
        policy.params, batch, temperature=temperature
    )
    drawn = samples.response_mask[:, 1:]
    np.testing.assert_allclose(samples.logprobs[:, 1:][drawn], np.asarray(scored)[:, :-1][drawn], atol=1e-5, rtol=0)
    assert np.all(samples.logprobs[~samples.response_mask] == 0)
    assert samples.logprobs[samples.response_mask].std() > 0.1  # a comparison of different numbers


def test_greedy_responses_take_the_likeliest_token_at_every_step(policy, sampler, unrolled):
    greedy = SamplingParams(temperature=0.0)
    samples = sampler.sample(unrolled, PROMPTS, KEY, num_samples=NUM_SAMPLES, sampling=greedy)
    batch = make_token_batch(samples.tokens, samples.segment_ids, samples.response_mask)
    model = Transformer(policy.config)
    hidden, _ = model.apply({"params": policy.params}, batch.tokens, batch.segment_ids, batch.positions)
    likeliest = unembed(hidden, policy.params).argmax(axis=-1)
    drawn = samples.response_mask[:, 1:]
    np.testing.assert_array_equal(samples.tokens[:, 1:][drawn], np.asarray(likeliest)[:, :-1][drawn])
