import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import PHI4, LongRope, ModelConfig
from phi4r.model.inputs import segment_positions
from phi4r.model.kv_cache import empty_cache
from phi4r.model.layouts import unroll_params
from phi4r.model.transformer import Transformer, init_params, unembed

CONFIG = ModelConfig(
    vocab_size=61, num_layers=2, embed_dim=32, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=48, init_std=0.2
)
LONGROPE = LongRope(short_factor=(1.0, 1.5, 2.0), long_factor=(1.0, 3.0, 9.0), original_max_positions=15)
SHAPES = {
    "full": CONFIG,
    "window": CONFIG.replace(sliding_window=5),
    "longrope": CONFIG.replace(rotary_fraction=0.75, longrope=LONGROPE, max_positions=256),
}
LENGTH, CAPACITY = 16, 21


def padded_rows():
    """Three rows of 16 tokens with 0, 3 and 7 tokens of padding on the left."""
    tokens = jax.random.randint(jax.random.key(2), (3, LENGTH), 0, CONFIG.vocab_size)
    segments = jnp.asarray([[0] * pad + [1] * (LENGTH - pad) for pad in (0, 3, 7)])
    return tokens, segments, segment_positions(segments, xp=jnp)


@functools.cache
def params_of(config):
    return jax.jit(lambda key: unroll_params(init_params(config, key), config))(jax.random.key(0))


@functools.partial(jax.jit, static_argnums=0)
def logits_and_cache(config, params, rows, cache):
    """Returns logits [B T V] of rows, and the cache after them."""
    hidden, cache = Transformer(config, unrolled=True).apply({"params": params}, *rows, cache)
    return unembed(hidden, params), cache


def run_in_chunks(config, rows, chunks):
    """Returns logits [B T V] of rows that go through the cache in chunks of the given lengths, and the cache."""
    cache = empty_cache(config, batch=rows[0].shape[0], capacity=CAPACITY)
    logits, start = [], 0
    for length in chunks:
        chunk = [x[:, start : start + length] for x in rows]
        chunk_logits, cache = logits_and_cache(config, params_of(config), chunk, cache)
        logits.append(chunk_logits)
        start += length
    return jnp.concatenate(logits, axis=1), cache


@pytest.mark.parametrize("chunks", [[16], [1] * 16, [8, 1, 1, 5, 1]], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_cached_logits_equal_those_of_one_pass_in_any_chunks(shape, chunks):
    config, rows = SHAPES[shape], padded_rows()
    # A cache of 21 slots is past the original length of 15: so must be the pass that it is compared with.
    whole, _ = logits_and_cache(config.for_length(CAPACITY), params_of(config), rows, None)
    cached, cache = run_in_chunks(config, rows, chunks)
    real = np.asarray(rows[1]) > 0
    np.testing.assert_allclose(cached[real], whole[real], atol=1e-5, rtol=0)
    assert int(cache.index) == LENGTH
    np.testing.assert_array_equal(cache.segment_ids, np.pad(rows[1], [(0, 0), (0, CAPACITY - LENGTH)]))


def test_a_row_does_not_depend_on_its_neighbours():
    rows = padded_rows()
    together, _ = run_in_chunks(CONFIG, rows, [8, 8])
    alone, _ = run_in_chunks(CONFIG, [x[1:2] for x in rows], [8, 8])
    np.testing.assert_allclose(together[1:2, 3:], alone[:, 3:], atol=1e-5, rtol=0)


def test_the_cache_of_phi_4_has_200_kib_a_token():
    cache = jax.eval_shape(lambda: empty_cache(PHI4, batch=2, capacity=100))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((cache.keys, cache.values)))
    assert held == 2 * 100 * 200 * 1024 == PHI4.kv_cache_bytes(200)
