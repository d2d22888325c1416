"""The kernels for pages inside the sampler, interpreted: they draw what the loop of plain XLA draws."""

import functools

import jax
import numpy as np
import pytest

from phi4r.model.attention import paged_mosaic, paged_triton
from phi4r.model.transformer import init_params

from .conftest import Policy

PROMPTS = [[4 + (i * i) % 15 for i in range(length)] for length in (150, 3, 40)]
KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def wide(policy) -> Policy:
    """Heads of 128, as the kernel for TPUs wants them."""
    config = policy.config.replace(head_dim=128, num_layers=1)
    return Policy(config, jax.jit(functools.partial(init_params, config))(jax.random.key(2)))


@pytest.mark.parametrize(
    ("backend", "kernel", "page_size", "draft_tokens"),
    [("triton", paged_triton, 16, 2), ("splash", paged_mosaic, 128, 0)],
    ids=["gpu", "tpu"],
)
def test_a_kernel_draws_what_the_loop_draws(wide, monkeypatch, backend, kernel, page_size, draft_tokens):
    calls, read = [], kernel.read_pages
    monkeypatch.setattr(kernel, "read_pages", lambda *args, **kw: calls.append(1) or read(*args, **kw))
    shapes = {"prompt_length": 150, "max_response": 6, "page_size": page_size, "draft_tokens": draft_tokens}
    loop = wide.sampler(**shapes)
    unrolled = loop.unroll(wide.params)
    expected = loop.sample(unrolled, PROMPTS, KEY, num_samples=2)
    assert not calls
    ours = wide._replace(config=wide.config.replace(attention=backend)).sampler(**shapes)
    samples = ours.sample(unrolled, PROMPTS, KEY, num_samples=2)
    assert calls
    np.testing.assert_array_equal(samples.tokens, expected.tokens)
    np.testing.assert_allclose(samples.logprobs, expected.logprobs, atol=1e-5)
