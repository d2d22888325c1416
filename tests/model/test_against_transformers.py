"""The decoder against the reference implementation, on small random models of every shape in the family."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.checkpoint.release import load_hf_folder
from phi4r.model.config import ModelConfig
from phi4r.model.layouts import unroll_params
from phi4r.model.transformer import Transformer, unembed
from tests.model.caches import empty_cache

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPT_LENGTH, NEW_TOKENS = 24, 64
SMALL = dict(
    vocab_size=101,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=112,
    max_position_embeddings=4096,
)
# Phi-4-mini in small: heads of 32 of which 24 dimensions turn, a context extended 32 times.
LONGROPE = dict(
    hidden_size=128,
    tie_word_embeddings=True,
    partial_rotary_factor=0.75,
    max_position_embeddings=131072,
    rope_scaling={
        "type": "longrope",
        "short_factor": [1.0 + 0.02 * i for i in range(12)],
        "long_factor": [1.0 + 2.5 * i for i in range(12)],
    },
)
FAMILY = {
    "phi4_four_queries_a_kv_head": dict(num_attention_heads=8, rope_theta=250000.0, vocab_size=257),
    "reasoning_long_positions": dict(rope_theta=500000.0, max_position_embeddings=32768, first_position=32600),
    "phi4_mini_three_queries_a_kv_head": dict(
        hidden_size=96, num_attention_heads=6, tie_word_embeddings=True, vocab_size=131
    ),
    "one_kv_head": dict(num_key_value_heads=1, vocab_size=97),
    "phi3_mini_all_heads_apart_head_dim_96": dict(
        hidden_size=192, num_attention_heads=2, num_key_value_heads=2, sliding_window=2047
    ),
    "partial_rotary": dict(hidden_size=128, partial_rotary_factor=0.75),
    "longrope_below_the_original_length": dict(**LONGROPE, original_max_position_embeddings=128),
    "longrope_above_the_original_length": dict(**LONGROPE, original_max_position_embeddings=16),
    "sliding_window_shorter_than_the_prompt": dict(sliding_window=7),
    "head_dim_of_its_own": dict(head_dim=32, vocab_size=1009),
    "norm_epsilon_that_shows": dict(num_hidden_layers=1, intermediate_size=300, rms_norm_eps=1e-2),
}
# What each special shape would be without its feature.
WITHOUT = {
    "reasoning_long_positions": lambda c: c.replace(rope_theta=250000.0),
    "partial_rotary": lambda c: c.replace(rotary_fraction=1.0),
    "longrope_below_the_original_length": lambda c: c.replace(longrope=dataclasses.replace(c.longrope, use="long")),
    "longrope_above_the_original_length": lambda c: c.replace(longrope=dataclasses.replace(c.longrope, use="short")),
    "sliding_window_shorter_than_the_prompt": lambda c: c.replace(sliding_window=None),
    "norm_epsilon_that_shows": lambda c: c.replace(norm_eps=1e-5),
}


class Case(NamedTuple):
    """A random reference model, the same in ours, two prompts and the position of their first token."""

    name: str
    reference: Any
    config: ModelConfig
    params: Any
    prompt: np.ndarray
    first_position: int


@pytest.fixture(scope="module", params=FAMILY)
def case(request, tmp_path_factory):
    fields = {**SMALL, **FAMILY[request.param]}
    first_position = fields.pop("first_position", 0)
    reference = make_reference(fields)
    folder = tmp_path_factory.mktemp("reference")
    reference.save_pretrained(folder)
    config, params = load_hf_folder(folder)
    prompt = np.random.default_rng(1).integers(0, config.vocab_size, (2, PROMPT_LENGTH))
    return Case(request.param, reference, config, params, prompt, first_position)


def make_reference(fields):
    """Returns a Phi3ForCausalLM with random weights, norm scales included."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # Weights large enough for logits of several units, and for continuations that do not repeat.
    std = 1.2 / fields["hidden_size"] ** 0.5
    hf_config = transformers.Phi3Config(**fields, initializer_range=std, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    hf_config._attn_implementation = "eager"
    reference = transformers.Phi3ForCausalLM(hf_config).eval()
    with torch.no_grad():
        for name, value in reference.named_parameters():
            if "norm" in name:
                value.add_(0.2 * torch.randn_like(value))
    return reference


def reference_logits(reference, tokens, first_position):
    """Returns the reference's logits [B T V] for tokens at consecutive positions."""
    positions = first_position + torch.arange(tokens.shape[1])[None].expand(tokens.shape[0], -1)
    with torch.no_grad():
        return reference(torch.as_tensor(tokens), position_ids=positions, use_cache=False).logits.numpy()


def our_logits(config, params, tokens, first_position):
    """Returns our logits [B T V] by the stacked layout."""

    @jax.jit
    def forward(params, tokens):
        positions = first_position + jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden, _ = Transformer(config).apply({"params": params}, tokens, jnp.ones_like(tokens), positions)
        return unembed(hidden, params)

    return np.asarray(forward(params, jnp.asarray(tokens, jnp.int32)))


def our_greedy(config, params, prompt, first_position):
    """Returns the greedy continuation [B NEW_TOKENS] by the unrolled layout and its cache."""
    model = Transformer(config, unrolled=True)

    @jax.jit
    def generate(params, prompt):
        params = unroll_params(params, config)
        batch = prompt.shape[0]

        def step(cache, tokens, position):
            positions = first_position + position + jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
            hidden, cache = model.apply({"params": params}, tokens, jnp.ones_like(tokens), positions, cache)
            return cache, jnp.argmax(unembed(hidden[:, -1:], params), axis=-1).astype(jnp.int32)

        def body(carry, position):
            cache, token = step(*carry, position)
            return (cache, token), token[:, 0]

        cache = empty_cache(config, batch=batch, capacity=PROMPT_LENGTH + NEW_TOKENS)
        cache, first = step(cache, prompt, 0)
        _, rest = jax.lax.scan(body, (cache, first), PROMPT_LENGTH + jnp.arange(NEW_TOKENS - 1))
        return jnp.concatenate([first, rest.T], axis=1)

    return np.asarray(generate(params, jnp.asarray(prompt, jnp.int32)))


def test_logits_agree_with_the_reference(case):
    expected = reference_logits(case.reference, case.prompt, case.first_position)
    assert np.abs(expected).max() > 1.0, "logits near 0 would agree whatever the model computes"
    logits = our_logits(case.config, case.params, case.prompt, case.first_position)
    np.testing.assert_allclose(logits, expected, atol=2e-5, rtol=0)


def test_greedy_continuations_of_64_tokens_are_identical(case):
    tokens = case.prompt
    for _ in range(NEW_TOKENS):  # without a cache: the reference by definition
        logits = reference_logits(case.reference, tokens, case.first_position)
        tokens = np.concatenate([tokens, logits[:, -1:].argmax(-1)], axis=1)
    expected = tokens[:, PROMPT_LENGTH:]
    assert len(np.unique(expected)) > 8, "a continuation that repeats one token would show little"
    continuation = our_greedy(case.config, case.params, case.prompt, case.first_position)
    np.testing.assert_array_equal(continuation, expected)


@pytest.mark.parametrize("case", WITHOUT, indirect=True)
def test_a_model_without_the_feature_disagrees(case):
    expected = reference_logits(case.reference, case.prompt, case.first_position)
    changed = WITHOUT[case.name](case.config)
    logits = our_logits(changed, case.params, case.prompt, case.first_position)
    assert np.abs(logits - expected).max() > 1e-2
