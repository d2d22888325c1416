import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import PHI4, LongRope, ModelConfig
from phi4r.model.inputs import segment_positions
from phi4r.model.int8 import Int8Matrix
from phi4r.model.kv_cache import NO_TOKEN, copy_pages, empty_pages, open_cache, write_columns, write_pages
from phi4r.model.layouts import unroll_params
from phi4r.model.transformer import Transformer, init_params, unembed
from phi4r.sharding import MeshSettings, make_mesh
from tests.model.caches import empty_cache

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
    # A cache of 21 tokens is past the original length of 15: so must be the pass that it is compared with.
    whole, _ = logits_and_cache(config.for_length(CAPACITY), params_of(config), rows, None)
    cached, cache = run_in_chunks(config, rows, chunks)
    real = np.asarray(rows[1]) > 0
    np.testing.assert_allclose(cached[real], whole[real], atol=1e-5, rtol=0)
    assert int(cache.column) == LENGTH
    places = np.where(rows[1], rows[2], NO_TOKEN)
    np.testing.assert_array_equal(cache.positions, np.pad(places, [(0, 0), (0, 5)], constant_values=NO_TOKEN))


def test_a_row_does_not_depend_on_its_neighbours():
    rows = padded_rows()
    together, _ = run_in_chunks(CONFIG, rows, [8, 8])
    alone, _ = run_in_chunks(CONFIG, [x[1:2] for x in rows], [8, 8])
    np.testing.assert_allclose(together[1:2, 3:], alone[:, 3:], atol=1e-5, rtol=0)


def whole_rows():
    """Four rows of 16 tokens, of which 16, 3, 9 and 1 are real, without padding on the left."""
    tokens = jax.random.randint(jax.random.key(3), (4, LENGTH), 0, CONFIG.vocab_size)
    segments = (jnp.arange(LENGTH)[None] < jnp.asarray([16, 3, 9, 1])[:, None]).astype(jnp.int32)
    return tokens, segments, jnp.broadcast_to(jnp.arange(LENGTH), (4, LENGTH))


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def run_chunk(config, params, pages, table, lengths, rows):
    """Returns logits of a chunk of rows, and the pages with it."""
    cache = open_cache(pages, table, lengths, columns=rows[0].shape[1], longest=CAPACITY)
    hidden, cache = Transformer(config, unrolled=True).apply({"params": params}, *rows, cache)
    return unembed(hidden, params), write_pages(cache)


def run_in_pages(config, rows, chunks, page_size, params=None, cache="float"):
    """Returns logits [B T V] of rows that go through the pages in chunks; the pages of a row lie in any order."""
    num = -(-LENGTH // page_size)
    order = np.random.default_rng(0).permutation(np.arange(1, 4 * num + 1)).reshape(4, num)
    table = jnp.asarray(order if jax.sharding.get_abstract_mesh().empty else 1 + np.arange(num)[None].repeat(4, 0))
    pages = empty_pages(config, num_pages=4 * num + 4, page_size=page_size, cache=cache)
    logits, start = [], 0
    lengths = jnp.sum(rows[1], axis=1)
    for size in chunks:
        chunk = [x[:, start : start + size] for x in rows]
        params = params_of(config) if params is None else params
        out, pages = run_chunk(config, params, pages, table, jnp.minimum(lengths, start), chunk)
        logits.append(out)
        start += size
    return jnp.concatenate(logits, axis=1)


@pytest.mark.parametrize(
    ("chunks", "page_size"), [([16], 4), ([1] * 16, 8), ([8, 1, 1, 5, 1], 4), ([5, 11], 3)], ids=str
)
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_through_pages_equal_those_of_one_pass(shape, chunks, page_size):
    config, rows = SHAPES[shape], whole_rows()
    whole, _ = logits_and_cache(config.for_length(CAPACITY), params_of(config), rows, None)
    real = np.asarray(rows[1]) > 0
    np.testing.assert_allclose(run_in_pages(config, rows, chunks, page_size)[real], whole[real], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("cache", "tolerance"), [("float", 1e-5), ("int8", 1e-3)])
def test_pages_are_counted_within_each_part_of_the_batch(cache, tolerance):
    """In int8 a number between two steps may go to the other one: a change of some 1e-4."""
    rows = whole_rows()
    expected = run_in_pages(CONFIG, rows, [8, 8], 4, cache=cache)
    mesh = make_mesh(MeshSettings(fsdp=4, tensor=2), heads=CONFIG.heads)
    with jax.set_mesh(mesh):
        got = run_in_pages(CONFIG, rows, [8, 8], 4, cache=cache)
    real = np.asarray(rows[1]) > 0
    np.testing.assert_allclose(got[real], expected[real], atol=tolerance, rtol=0)


def test_in_int8_a_token_sees_the_same_whether_it_is_in_pages_or_in_columns():
    rows = whole_rows()
    real = np.asarray(rows[1]) > 0
    whole = run_in_pages(CONFIG, rows, [16], 4)[real]
    small = run_in_pages(CONFIG, rows, [16], 4, cache="int8")[real]
    assert 5e-3 < np.abs(small - whole).max() < 0.1
    for chunks in ([1] * 16, [5, 11]):
        np.testing.assert_allclose(run_in_pages(CONFIG, rows, chunks, 4, cache="int8")[real], small, atol=1e-3, rtol=0)


def test_keys_are_rounded_as_by_hand_and_pages_hold_what_columns_held():
    """2.54 at most, so steps of 0.02; nothing but zeros; -1.27, so steps of 0.01. The token goes to page 3, place 1."""
    config = CONFIG.replace(num_layers=1, num_kv_heads=1, num_heads=1, head_dim=3)
    new = jnp.array([[2.54, -0.05, 0.0311], [0.0, 0.0, 0.0], [-1.27, 0.004, 0.006]])[:, None, None]  # [N=3 K=1 T=1 H]
    pages = empty_pages(config, num_pages=6, page_size=2, cache="int8")
    table = jnp.array([[1, 3], [2, 0], [4, 5]])
    cache = open_cache(pages, table, jnp.array([3, 0, 2]), columns=2, longest=4)
    keys = write_columns(cache.keys[0], new, cache.column + 1)
    np.testing.assert_array_equal(keys.values[:, 0, 1], [[127, -2, 2], [0, 0, 0], [-127, 0, 1]])
    np.testing.assert_allclose(keys.scale[:, 0, 1], [0.02, 1 / 127, 0.01], rtol=1e-6)
    error = np.abs(keys.values[:, 0, 1] * keys.scale[:, 0, 1, None] - new[:, 0, 0])
    assert (error <= keys.scale[:, 0, 1, None] / 2 * (1 + 1e-5)).all()

    places = jnp.array([[NO_TOKEN, 3], [NO_TOKEN, 0], [NO_TOKEN, 2]])
    written = write_pages(cache.replace(keys=(keys,), positions=places)).keys[0]
    assert written.values.dtype == jnp.int8 and written.scale.dtype == jnp.float32
    for row, (page, place) in enumerate([(3, 1), (2, 0), (5, 0)]):
        np.testing.assert_array_equal(written.values[page, 0, place], keys.values[row, 0, 1])
        assert written.scale[page, 0, place] == keys.scale[row, 0, 1]
    assert np.count_nonzero(written.scale[1:]) == 3


def test_a_copied_page_holds_what_the_first_held_and_the_others_stay():
    pages = empty_pages(CONFIG, num_pages=4, page_size=2)
    pages = jax.tree.map(lambda x: x + jnp.arange(4.0)[:, None, None, None], pages)
    copied = copy_pages(pages, jnp.asarray([3, 0]), jnp.asarray([1, 0]))
    for leaf in jax.tree.leaves(copied):
        np.testing.assert_array_equal(leaf[:, 0, 0, 0], [0, 3, 2, 3])


def test_a_copied_page_in_int8_has_its_scales_too():
    pages = empty_pages(CONFIG, num_pages=4, page_size=2, cache="int8")
    number = jnp.arange(4, dtype=jnp.int8)
    pages = jax.tree.map(lambda x: x + jnp.expand_dims(number, tuple(range(1, x.ndim))).astype(x.dtype), pages)
    for pool in copy_pages(pages, jnp.asarray([3, 0]), jnp.asarray([1, 0])).keys:
        assert isinstance(pool, Int8Matrix)
        np.testing.assert_array_equal(pool.values[:, 0, 0, 0], [0, 3, 2, 3])
        np.testing.assert_array_equal(pool.scale[:, 0, 0], [0, 3, 2, 3])


@pytest.mark.parametrize(("cache", "bytes_of_token"), [("float", 200 * 1024), ("int8", 2 * 40 * 10 * (128 + 4))])
def test_a_page_of_phi_4_has_200_kib_a_token_or_103_in_int8(cache, bytes_of_token):
    pages = jax.eval_shape(lambda: empty_pages(PHI4, num_pages=2, page_size=100, cache=cache))
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pages))
    assert held == 2 * 100 * bytes_of_token == PHI4.kv_cache_bytes(200, cache=cache)
