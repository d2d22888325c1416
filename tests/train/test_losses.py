import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import ModelConfig
from phi4r.model.inputs import make_token_batch
from phi4r.model.transformer import Transformer, init_params
from phi4r.train.losses import make_sft_loss
from phi4r.train.step import mean_metrics


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(
        vocab_size=17, num_layers=1, embed_dim=16, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=24, init_std=0.5
    )
    return Transformer(config), init_params(config, jax.random.key(1))


@functools.partial(jax.jit, static_argnums=0)
def dense_logits(model, params, ids):
    """Logits of one unpadded document, the whole vocabulary at every position."""
    positions = jnp.arange(ids.shape[1])[None]
    hidden, _ = model.apply({"params": params}, ids, jnp.ones_like(ids), positions)
    return model.apply({"params": params}, hidden, method="unembed")


def test_the_loss_is_the_mean_nll_of_the_trained_tokens_by_dense_logits(model):
    model, params = model
    tokens = np.array([[5, 3, 9, 1, 2, 7, 0, 0]])
    segments = np.array([[1, 1, 1, 1, 2, 2, 0, 0]])
    trained = np.array([[0, 0, 1, 1, 0, 1, 0, 0]], bool)
    batch = make_token_batch(tokens, segments, trained)
    sums = jax.jit(make_sft_loss(model, chunk_size=3))(params, jax.tree.map(jnp.asarray, batch))

    expected, entropies = [], []
    for row in ([5, 3, 9, 1], [2, 7]):  # the two documents, each by itself
        ids = jnp.array([row])
        logits = dense_logits(model, params, ids)
        logp = np.asarray(jax.nn.log_softmax(logits[0].astype(jnp.float32)))
        for t in range(len(row) - 1):
            if (row[t + 1]) in (9, 1, 7):
                expected.append(-logp[t, row[t + 1]])
                entropies.append(-(np.exp(logp[t]) * logp[t]).sum())
    assert len(expected) == float(sums.weight) == 3.0
    metrics = mean_metrics(sums)
    np.testing.assert_allclose(metrics["loss"], np.mean(expected), rtol=1e-5)
    np.testing.assert_allclose(metrics["nll"], np.mean(expected), rtol=1e-5)
    np.testing.assert_allclose(metrics["entropy"], np.mean(entropies), rtol=1e-5)
    assert np.std(expected) > 0.1  # not three equal numbers
