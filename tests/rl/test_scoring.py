import functools

import jax
import numpy as np
import pytest

from phi4r.model.config import ModelConfig
from phi4r.model.inputs import make_token_batch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer, init_params
from phi4r.rl.scoring import make_score_fn

MODEL = Transformer(
    ModelConfig(
        vocab_size=23, num_layers=1, embed_dim=16, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=24, init_std=0.3
    )
)


@pytest.fixture(scope="module")
def params():
    return jax.jit(functools.partial(init_params, MODEL.config))(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    """Eight left-padded rows of unequal length."""
    rng = np.random.default_rng(0)
    segments = (np.arange(9)[None] >= rng.integers(0, 5, (8, 1))).astype(np.int32)
    return make_token_batch(rng.integers(0, 23, (8, 9)), segments, segments > 0)


@pytest.mark.parametrize("num_microbatches", [1, 2, 8])
def test_scores_are_the_log_probabilities_of_the_targets_row_by_row(params, batch, num_microbatches):
    score_fn = make_score_fn(MODEL, chunk_size=4, temperature=0.7, num_microbatches=num_microbatches)
    expected, _ = jax.jit(functools.partial(token_logprobs, MODEL, chunk_size=9))(params, batch, temperature=0.7)
    assert np.std(expected) > 0.1  # rows in another order would show
    np.testing.assert_allclose(score_fn(params, batch), expected, atol=1e-5, rtol=0)


def test_micro_batches_without_tokens_are_not_scored(params, batch):
    # Rows 0 and 4 make up the first of four parts; the others are empty.
    empty = np.arange(8)[:, None] % 4 > 0
    batch = jax.tree.map(lambda x: np.where(empty, 0, x).astype(x.dtype), batch)
    score_fn = make_score_fn(MODEL, chunk_size=4, temperature=1.0, num_microbatches=4)
    whole = make_score_fn(MODEL, chunk_size=4, temperature=1.0)(params, batch)
    scored = np.asarray(score_fn(params, batch))
    np.testing.assert_allclose(scored[[0, 4]], whole[jax.numpy.array([0, 4])], atol=1e-5, rtol=0)
    assert np.all(scored[empty[:, 0]] == 0.0) and np.all(np.asarray(whole)[empty[:, 0]] != 0.0)
