import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import ModelConfig
from phi4r.model.inputs import make_token_batch
from phi4r.model.layouts import unroll_params
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer, abstract_params, init_params, unembed

CONFIG = ModelConfig(
    vocab_size=61, num_layers=2, embed_dim=32, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=48, init_std=0.2
)
TIED = CONFIG.replace(tied_embeddings=True)


@functools.cache
def params_of(config):
    return jax.jit(functools.partial(init_params, config))(jax.random.key(0))


def packed_batch(vocab_size=61, shape=(2, 13)):
    rng = np.random.default_rng(0)
    segments = np.ones(shape, int)
    segments[0, 5:] = 2
    segments[1, -2:] = 0
    return make_token_batch(rng.integers(0, vocab_size, shape), segments, rng.random(shape) < 0.8)


@functools.partial(jax.jit, static_argnums=0)
def hidden_of(config, params, batch):
    return Transformer(config).apply({"params": params}, batch.tokens, batch.segment_ids, batch.positions)[0]


@functools.partial(jax.jit, static_argnums=0, static_argnames="chunk_size")
def score(config, params, batch, *, chunk_size=100, temperature=1.0):
    return token_logprobs(Transformer(config), params, batch, chunk_size=chunk_size, temperature=temperature)


@pytest.mark.parametrize("temperature", [1.0, 0.8])
@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["untied", "tied"])
def test_logprobs_and_entropy_equal_a_log_softmax_by_hand(config, temperature):
    params, batch = params_of(config), packed_batch()
    logits = np.asarray(unembed(hidden_of(config, params, batch), params), np.float64) / temperature
    log_softmax = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    logprobs, entropy = score(config, params, batch, temperature=temperature)
    expected = np.take_along_axis(log_softmax, batch.targets[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(logprobs, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(entropy, -(np.exp(log_softmax) * log_softmax).sum(axis=-1), atol=1e-5, rtol=0)


def test_a_head_of_zeros_gives_the_uniform_distribution():
    params = {**params_of(CONFIG), "lm_head": jnp.zeros((32, 61))}
    logprobs, entropy = score(CONFIG, params, packed_batch())
    np.testing.assert_allclose(logprobs, -math.log(61), rtol=1e-6)
    np.testing.assert_allclose(entropy, math.log(61), rtol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 5])
def test_chunks_give_the_values_and_gradients_of_the_whole_row(chunk_size):
    batch = packed_batch()
    weights = jax.random.normal(jax.random.key(1), (2, *batch.tokens.shape)) * batch.loss_mask[None]

    def loss(params, chunk_size):
        logprobs, entropy = score(CONFIG, params, batch, chunk_size=chunk_size, temperature=0.8)
        return jnp.sum(logprobs * weights[0] + entropy * weights[1]), (logprobs, entropy)

    grad_fn = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    (_, whole), whole_grads = grad_fn(params_of(CONFIG), batch.tokens.shape[1])
    (_, chunked), grads = grad_fn(params_of(CONFIG), chunk_size)
    np.testing.assert_allclose(chunked, whole, atol=1e-5, rtol=0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4), grads, whole_grads)


def test_the_gradient_of_the_head_is_probability_minus_one_hot():
    batch = packed_batch()
    params = params_of(CONFIG)
    hidden = hidden_of(CONFIG, params, batch)

    def nll(head):
        return -jnp.sum(score(CONFIG, {**params, "lm_head": head}, batch, chunk_size=4)[0] * batch.loss_mask)

    probabilities = jax.nn.softmax(unembed(hidden, params), axis=-1)
    error = (probabilities - jax.nn.one_hot(batch.targets, 61)) * batch.loss_mask[..., None]
    expected = np.einsum("btd,btv->dv", hidden, error)
    np.testing.assert_allclose(jax.grad(nll)(params["lm_head"]), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["untied", "tied"])
def test_both_layouts_of_the_parameters_score_alike(config):
    batch, params = packed_batch(), params_of(config)

    @jax.jit
    def score_unrolled(params):
        model = Transformer(config, unrolled=True)
        return token_logprobs(model, unroll_params(params, config), batch, chunk_size=5, temperature=0.8)

    unrolled = score_unrolled(params)
    stacked = score(config, params, batch, chunk_size=5, temperature=0.8)
    np.testing.assert_allclose(unrolled, stacked, atol=1e-5, rtol=0)


LENGTH, VOCAB = 4096, 5003
LONG = ModelConfig(
    vocab_size=VOCAB, num_layers=2, embed_dim=16, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=32, remat="full"
)


def compiled_shapes(chunk_size):
    """Returns the dimensions of every array in the compiled gradient of a loss on one row of 4096 tokens."""

    def loss(params, batch):
        logprobs, _ = token_logprobs(Transformer(LONG), params, batch, chunk_size=chunk_size)
        return -jnp.sum(logprobs * batch.loss_mask)

    batch = jax.eval_shape(lambda: make_token_batch(*jnp.zeros((3, 1, LENGTH), int), xp=jnp))
    text = jax.jit(jax.value_and_grad(loss)).lower(abstract_params(LONG), batch).compile().as_text()
    return {tuple(int(d) for d in dims.split(",")) for dims in re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", text)}


def test_no_array_of_the_compiled_loss_has_length_by_vocabulary_or_length_by_length():
    shapes = compiled_shapes(chunk_size=256)
    assert any(VOCAB in shape and 256 in shape for shape in shapes), "the search does not find the chunk of logits"
    assert not [s for s in shapes if LENGTH in s and VOCAB in s]
    assert not [s for s in shapes if s.count(LENGTH) > 1]
    assert max(math.prod(s) for s in shapes) < LENGTH * LENGTH  # nor the same under another shape


def test_the_search_would_find_the_logits_of_a_whole_row():
    assert [s for s in compiled_shapes(chunk_size=LENGTH) if LENGTH in s and VOCAB in s]
