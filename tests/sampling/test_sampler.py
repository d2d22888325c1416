"""What a sample does not depend on: waves, neighbours, order, padding, devices."""

import jax
import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.metrics.throughput import CompileCounter
from phi4r.model.transformer import param_axes
from phi4r.sampling import FINISH_LENGTH, SamplingParams
from phi4r.sharding import MeshSettings, make_mesh, param_shardings

from .conftest import PROMPTS

KEY = jax.random.key(11)
G = 3


def responses(samples) -> list[list[int]]:
    """The drawn tokens of every row."""
    return [tokens[mask].tolist() for tokens, mask in zip(samples.tokens, samples.response_mask, strict=True)]


@pytest.fixture(scope="module")
def whole(sampler, unrolled):
    """All prompts in one wave."""
    return sampler.sample(unrolled, PROMPTS, KEY, num_samples=G)


def assert_same(samples, expected):
    """The same tokens, and log-probabilities up to rounding."""
    np.testing.assert_array_equal(samples.tokens, expected.tokens)
    np.testing.assert_array_equal(samples.segment_ids, expected.segment_ids)
    np.testing.assert_array_equal(samples.response_mask, expected.response_mask)
    np.testing.assert_array_equal(samples.finish_reason, expected.finish_reason)
    np.testing.assert_allclose(samples.logprobs, expected.logprobs, atol=1e-5)


def test_the_samples_of_a_group_differ(whole):
    groups = [responses(whole)[i : i + G] for i in range(0, len(PROMPTS) * G, G)]
    assert all(len({tuple(r) for r in group}) > 1 for group in groups)


@pytest.mark.parametrize("rows_per_wave", [1, 10])
def test_waves_change_nothing(policy, unrolled, whole, rows_per_wave):
    # 1 row: a group at a time all the same; 10: three groups, and a last wave with a dummy.
    sampler = policy.sampler(rows_per_wave=rows_per_wave)
    assert_same(sampler.sample(unrolled, PROMPTS, KEY, num_samples=G), whole)


def test_a_prompt_is_answered_alike_in_any_company_and_order(sampler, unrolled, whole):
    order = [6, 2, 5]
    samples = sampler.sample(unrolled, [PROMPTS[i] for i in order], KEY, prompt_ids=order, num_samples=G)
    expected = responses(whole)
    assert responses(samples) == [expected[i * G + sample] for i in order for sample in range(G)]


def test_fewer_samples_are_the_first_ones(sampler, unrolled, whole):
    expected = responses(whole)
    assert responses(sampler.sample(unrolled, PROMPTS, KEY)) == expected[::G]


def test_keys_follow_prompt_ids_and_calls(sampler, unrolled, whole):
    same = sampler.sample(unrolled, [PROMPTS[0]] * 2, KEY, prompt_ids=[4, 4], num_samples=G)
    assert responses(same)[:G] == responses(same)[G:]
    other = sampler.sample(unrolled, [PROMPTS[0]] * 2, KEY, prompt_ids=[0, 1], num_samples=G)
    assert responses(other)[:G] == responses(whole)[:G] != responses(other)[G:]
    again = sampler.sample(unrolled, PROMPTS, jax.random.fold_in(KEY, 1), num_samples=G)
    assert responses(again) != responses(whole)


def test_room_for_prompts_changes_nothing(policy, unrolled, whole):
    samples = policy.sampler(prompt_length=13).sample(unrolled, PROMPTS, KEY, num_samples=G)
    assert responses(samples) == responses(whole)
    np.testing.assert_allclose(samples.logprobs[:, 13:], whole.logprobs[:, 6:], atol=1e-5)


def test_a_lower_limit_cuts_the_same_responses_without_compiling(sampler, unrolled, whole):
    sampler.sample(unrolled, PROMPTS, KEY, num_samples=G)
    with CompileCounter() as compiles:
        samples = sampler.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=SamplingParams(max_tokens=4))
        sampler.sample(unrolled, PROMPTS[::-1], KEY, num_samples=G, sampling=SamplingParams(0.7, 5, 0.9, 8))
    assert compiles.count == 0
    assert responses(samples) == [response[:4] for response in responses(whole)]
    cut = np.array([len(response) for response in responses(whole)]) > 4
    assert np.all(samples.finish_reason[cut] == FINISH_LENGTH)


def test_a_limit_beyond_the_room_is_the_room(sampler, unrolled, whole):
    samples = sampler.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=SamplingParams(max_tokens=1000))
    assert_same(samples, whole)


@pytest.mark.parametrize(
    ("mesh_settings", "tensor"),
    [
        (MeshSettings(fsdp=8), None),
        (MeshSettings(data=2, fsdp=2, tensor=2), None),
        (MeshSettings(fsdp=2, context=4), None),
        (MeshSettings(fsdp=8), 2),
        (MeshSettings(fsdp=4, tensor=2), 1),
    ],
    ids=str,
)
def test_eight_devices_sample_what_one_does(policy, whole, mesh_settings, tensor):
    mesh = make_mesh(mesh_settings, heads=policy.config.heads)
    params = jax.device_put(policy.params, param_shardings(mesh, param_axes(policy.config), policy.params))
    sampler = policy.sampler(mesh=mesh, tensor=tensor)
    assert_same(sampler.sample(sampler.unroll(params), PROMPTS, KEY, num_samples=G), whole)


def test_decoding_divides_a_layer_over_as_many_devices_as_asked_for(policy):
    sampler = policy.sampler(mesh=make_mesh(MeshSettings(fsdp=8)), tensor=2)
    down = sampler.unroll(policy.params)["layers_0"]["mlp"]["down"]
    assert down.sharding.shard_shape(down.shape) == (16, 12)
    with pytest.raises(UserError, match="take one of 1, 2"):
        policy.sampler(mesh=make_mesh(MeshSettings(fsdp=8)), tensor=3)


def test_fewer_prompts_than_devices_are_filled_up(policy, whole):
    mesh = make_mesh(MeshSettings(fsdp=8))
    sampler = policy.sampler(mesh=mesh)
    samples = sampler.sample(sampler.unroll(policy.params), PROMPTS[:3], KEY, num_samples=G)
    assert responses(samples) == responses(whole)[: 3 * G]


@pytest.mark.parametrize(
    ("rows_per_wave", "expected"), [(None, 40), (1000, 40), (96, 32), (100, 32), (64, 16), (63, 16), (24, 8), (5, 8)]
)
def test_a_wave_has_at_most_rows_per_wave_in_a_multiple_of_the_devices(policy, rows_per_wave, expected):
    sampler = policy.sampler(mesh=make_mesh(MeshSettings(fsdp=8)), rows_per_wave=rows_per_wave)
    assert sampler.prompts_per_wave(37, G) == expected


@pytest.mark.parametrize(("prompt", "num_tokens"), [([], 0), ([1] * 7, 7)])
def test_a_prompt_that_does_not_fit_is_refused(sampler, unrolled, prompt, num_tokens):
    with pytest.raises(UserError, match=rf"prompt 1 has {num_tokens} tokens; .* prompt_length=6"):
        sampler.sample(unrolled, [[5], prompt], KEY)


def test_no_prompts_are_refused(sampler, unrolled):
    with pytest.raises(UserError, match="no prompts"):
        sampler.sample(unrolled, [], KEY)
