"""A small random model that now and then ends its responses, and prompts of unequal length for it."""

import functools
from typing import NamedTuple

import jax
import pytest

from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.sampling import Sampler, SamplerSettings
from phi4r.typing import Params

EOS, PAD, END_THINK = 3, 0, 2
PROMPTS = [[5, 6], [7], [8, 9, 10, 11, 12], [4, 4, 4], [13, 14, 15, 16], [17], [6, 5], [9, 18, 4]]


class Policy(NamedTuple):
    """A config and its parameters, stacked."""

    config: ModelConfig
    params: Params

    def sampler(self, *, prompt_length=6, max_response=10, mesh=None, **settings) -> Sampler:
        """A sampler of this model, with pages and bursts that are small against its responses."""
        settings = SamplerSettings(prompt_length, max_response, **{"page_size": 4, "burst": 3, **settings})
        return Sampler(self.config, settings, eos_ids=[EOS], pad_id=PAD, end_think_id=END_THINK, mesh=mesh)


@pytest.fixture(scope="session")
def policy() -> Policy:
    """Two layers of width 16 over 19 tokens; flat enough that samples differ, steep enough that mistakes show."""
    config = ModelConfig(
        vocab_size=19, num_layers=2, embed_dim=16, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=24, init_std=0.25
    )
    return Policy(config, jax.jit(functools.partial(init_params, config))(jax.random.key(2)))


@pytest.fixture(scope="session")
def sampler(policy) -> Sampler:
    """The plain sampler, compiled once for all tests."""
    return policy.sampler()


@pytest.fixture(scope="session")
def unrolled(policy, sampler) -> Params:
    """The parameters as the sampler wants them."""
    return sampler.unroll(policy.params)
