"""A sampler with a cache in int8 draws from a policy that is near the one with floats, whatever its slots."""

import jax
import numpy as np
import pytest

from phi4r.model.transformer import param_axes
from phi4r.sharding import MeshSettings, make_mesh, param_shardings

from .conftest import PROMPTS

KEY = jax.random.key(11)


@pytest.fixture(scope="module")
def small(policy, unrolled):
    """All responses decoded together."""
    return policy.sampler(cache="int8").sample(unrolled, PROMPTS, KEY, num_samples=3)


def test_log_probabilities_are_near_those_of_the_policy_with_floats(sampler, unrolled, small):
    whole = sampler.sample(unrolled, PROMPTS, KEY, num_samples=3)
    assert np.isfinite(small.logprobs).all() and np.isfinite(small.entropies).all()
    same = (small.tokens == whole.tokens).all(axis=1)
    assert same.mean() > 0.6  # a token that falls on the other side of a boundary changes all that follow
    gap = np.abs(small.logprobs - whole.logprobs)[same]
    assert 1e-4 < gap.max() < 0.05


@pytest.mark.parametrize(
    "settings",
    [{"num_slots": 9, "cache_tokens": 4 * 8, "burst": 1}, {"draft_tokens": 2}],
    ids=str,
)
def test_slots_bursts_evictions_and_drafts_change_nothing(policy, unrolled, small, settings):
    """Up to numbers between two steps, which may go to the other one where they are computed in another order."""
    sampler = policy.sampler(cache="int8", **settings)
    samples = sampler.sample(unrolled, PROMPTS, KEY, num_samples=3)
    np.testing.assert_array_equal(samples.tokens, small.tokens)
    np.testing.assert_allclose(samples.logprobs, small.logprobs, atol=1e-3)
    assert (sampler.stats.evictions > 3) == ("cache_tokens" in settings)


def test_a_mesh_draws_what_one_device_draws(policy, small):
    mesh = make_mesh(MeshSettings(data=1, fsdp=2, tensor=2), devices=jax.devices()[:4], heads=policy.config.heads)
    params = jax.device_put(policy.params, param_shardings(mesh, param_axes(policy.config), policy.params))
    sampler = policy.sampler(cache="int8", mesh=mesh)
    samples = sampler.sample(sampler.unroll(params), PROMPTS, KEY, num_samples=3)
    np.testing.assert_array_equal(samples.tokens, small.tokens)
    np.testing.assert_allclose(samples.logprobs, small.logprobs, atol=1e-3)
