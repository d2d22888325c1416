import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.attention import Tokens, attend, blockwise
from phi4r.model.attention.attend import choose_backend
from phi4r.model.attention.blockwise import attend_blockwise, block_bounds, block_sizes
from phi4r.model.attention.dense import attend_dense
from phi4r.sharding import MeshSettings, make_mesh, token_sharding, zigzag_order

KV_HEADS, QUERIES, HEAD_DIM = 2, 3, 8


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 8 queries and 16 keys, so that short rows have many."""
    monkeypatch.setattr(blockwise, "block_sizes", lambda queries, keys, head_dim: (min(8, queries), min(16, keys)))


def random_inputs(batch, length, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(batch, length, KV_HEADS, QUERIES, HEAD_DIM)] + [(batch, KV_HEADS, length, HEAD_DIM)] * 2
    return [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]


def packed(*rows, stride=1):
    """Tokens of rows that are given as (segment id, length) runs; positions count by `stride` from 0 in each run."""
    segments = [np.repeat([s for s, _ in row], [n for _, n in row]) for row in rows]
    positions = [np.concatenate([np.arange(n) * stride for _, n in row]) for row in rows]
    return Tokens(*(jnp.asarray(np.stack(x), jnp.int32) for x in (segments, positions)))


def output_and_gradients(attention, inputs, where, order=slice(None)):
    """Returns the output at real tokens, and the gradients of a weighted sum of it, for columns in `order`."""
    real = (where.segment_ids > 0)[:, :, None, None, None]
    target = jax.random.normal(jax.random.key(1), inputs[0].shape)[:, order]

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(inputs):
        out = jnp.where(real, attention(*inputs, where, where), 0.0)
        return jnp.sum(out * target), out

    (_, out), grads = loss(inputs)
    return [out, *grads]


def assert_equals_dense(where, *, window=None, dtype=jnp.float32, atol=5e-6):
    inputs = random_inputs(*where.segment_ids.shape, dtype)
    expected = output_and_gradients(functools.partial(attend_dense, window=window), inputs, where)
    result = output_and_gradients(functools.partial(attend_blockwise, window=window), inputs, where)
    for a, b in zip(result, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(*(np.asarray(x, np.float32) for x in (a, b)), atol=atol, rtol=0)


ROWS = {
    "one segment": [[(1, 50)]],
    "packed": [[(1, 5), (2, 21), (3, 24)], [(1, 17), (2, 32), (3, 1)]],
    "padding anywhere": [[(0, 11), (1, 14), (0, 9), (2, 12), (0, 4)], [(0, 50)]],
    "one token": [[(1, 1)], [(0, 1)]],
    "13 tokens": [[(1, 4), (2, 9)]],
}


@pytest.mark.parametrize("name", ROWS)
def test_blocks_equal_the_dense_attention_and_its_gradients(small_blocks, name):
    assert_equals_dense(packed(*ROWS[name]))


def test_blocks_of_the_chosen_size_equal_the_dense_attention():
    assert_equals_dense(packed([(1, 300), (2, 690), (0, 10)], [(0, 5), (1, 995)]))


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (9, 1), (9, 3), (40, 1)])
def test_a_window_equals_the_dense_attention_at_stretched_positions_too(small_blocks, window, stride):
    assert_equals_dense(packed([(1, 25), (2, 20), (0, 5)], stride=stride), window=window)


def test_blocks_in_bfloat16_equal_the_dense_attention_in_bfloat16(small_blocks):
    assert_equals_dense(packed([(1, 25), (2, 20), (0, 5)]), dtype=jnp.bfloat16, atol=0.05)


def test_a_padding_query_gives_zero_and_sends_no_gradient(small_blocks):
    where = packed([(0, 3), (1, 30), (0, 20)])
    inputs = random_inputs(1, 53)

    @jax.jit
    @jax.value_and_grad
    def total_at_padding(inputs):
        out = attend_blockwise(*inputs, where, where)
        return jnp.sum(jnp.where((where.segment_ids == 0)[:, :, None, None, None], out, 0.0))

    total, grads = total_at_padding(inputs)
    assert total == 0
    assert all((grad == 0).all() for grad in grads)


@pytest.mark.parametrize("shards", [2, 4])
def test_parts_of_rows_on_several_devices_equal_whole_rows(small_blocks, shards):
    where = packed([(1, 13), (2, 40), (0, 11)], [(1, 50), (0, 4), (2, 10)])
    inputs = random_inputs(2, 64)
    expected = output_and_gradients(attend_dense, inputs, where)
    order = zigzag_order(64, shards)
    inputs = [jnp.take(x, order, axis=axis) for x, axis in zip(inputs, (1, 2, 2), strict=True)]
    mesh = make_mesh(MeshSettings(fsdp=8 // shards // 2, tensor=2, context=shards), heads=(KV_HEADS, QUERIES))
    kernel = functools.partial(attend, backend="blockwise")
    with jax.set_mesh(mesh):
        where = jax.device_put(Tokens(*(x[:, order] for x in where)), token_sharding(mesh))
        result = output_and_gradients(kernel, inputs, where, order)
    for a, b, axis in zip(result, expected, (1, 1, 2, 2), strict=True):
        np.testing.assert_allclose(a, jnp.take(b, order, axis=axis), atol=5e-6, rtol=0)


def test_a_block_visits_the_keys_from_the_first_it_sees_to_its_last_query():
    # Blocks of 4:  1111 | 1122 | 2222 | 2233 | 3300 | 0000
    where = packed([(1, 6), (2, 8), (3, 4), (0, 6)])
    bounds = block_bounds(where, where, jnp.arange(24)[None], None, 4, 4)
    np.testing.assert_array_equal(bounds.first[:5], [0, 0, 1, 1, 3])
    np.testing.assert_array_equal(bounds.end[:5], [1, 2, 3, 4, 5])
    assert bounds.first[5] >= bounds.end[5]


def test_a_window_shortens_the_visits():
    where = packed([(1, 16)])
    bounds = block_bounds(where, where, jnp.arange(16)[None], 3, 4, 4)
    np.testing.assert_array_equal(bounds.first, [0, 0, 1, 2])  # query 8, the first of its block, sees 6, 7, 8
    np.testing.assert_array_equal(bounds.end, [1, 2, 3, 4])


def test_the_two_parts_of_a_device_have_bounds_of_their_own():
    # Device 0 of 2 holds places 0..3 and 12..15 of a row of 16 whose second segment starts at 6.
    keys = packed([(1, 6), (2, 10)])
    places = jnp.asarray([[0, 1, 2, 3], [12, 13, 14, 15]])
    queries = Tokens(*(x[:, places.reshape(-1)] for x in keys))
    bounds = block_bounds(queries, keys, places, None, 4, 2)
    np.testing.assert_array_equal(bounds.first, [0, 3])
    np.testing.assert_array_equal(bounds.end, [2, 8])


def test_blocks_outside_the_bounds_are_not_computed(small_blocks):
    """Keys of NaN are the witness: a mask over their scores would not keep them out of the values."""
    where = packed([(1, 32), (2, 32)])
    clean = random_inputs(1, 64)
    poisoned = [clean[0], *(x.at[:, :, :32].set(jnp.nan) for x in clean[1:])]

    @jax.jit
    @jax.value_and_grad
    def second_segment(inputs):
        return jnp.sum(attend_blockwise(*inputs, where, where)[:, 32:] ** 2)

    (total, grads), (expected_total, expected) = second_segment(poisoned), second_segment(clean)
    assert total == expected_total
    for grad, expected_grad, axis in zip(grads, expected, (1, 2, 2), strict=True):
        second = functools.partial(jnp.take, indices=jnp.arange(32, 64), axis=axis)
        np.testing.assert_array_equal(second(grad), second(expected_grad))


def compiled_shapes(attention, length):
    """Returns the dimensions of every array in the compiled gradient of attention over one row."""
    inputs = jax.eval_shape(lambda: random_inputs(1, length))
    where = Tokens(*[jax.ShapeDtypeStruct((1, length), jnp.int32)] * 2)
    grad = jax.grad(lambda inputs, where: jnp.sum(attention(*inputs, where, where)))
    text = jax.jit(grad).lower(inputs, where).compile().as_text()
    return {tuple(int(d) for d in dims.split(",")) for dims in re.findall(r"\b[a-z]+\d+\[([\d,]+)\]", text)}


def test_no_array_of_the_compiled_gradient_has_length_by_length():
    length = 4096
    shapes = compiled_shapes(attend_blockwise, length)
    size = block_sizes(length, length, HEAD_DIM)
    assert any(math.prod(s) == KV_HEADS * QUERIES * size[0] * size[1] for s in shapes), "no block of scores is found"
    assert not [s for s in shapes if s.count(length) > 1]
    assert max(math.prod(s) for s in shapes) < length * length


@pytest.mark.parametrize("length", [1, 13, 256, 300, 1000, 4096, 10000, 32768])
@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_blocks_waste_little_on_padding(length, head_dim):
    for size in block_sizes(length, length, head_dim):
        assert size <= 512
        blocks = -(-length // size)
        assert blocks * size - length < 8 * blocks


def test_attention_results_saved_by_remat_spare_the_forward_loop():
    where, inputs = packed([(1, 64)]), random_inputs(1, 64)
    policy = jax.checkpoint_policies.save_only_these_names("attention_out", "attention_lse")

    def num_loops(policy):
        remade = jax.checkpoint(lambda inputs: attend_blockwise(*inputs, where, where), policy=policy)
        return str(jax.make_jaxpr(jax.grad(lambda inputs: jnp.sum(remade(inputs))))(inputs)).count("= while[")

    assert num_loops(policy) == 2  # one in the forward pass, one in the backward pass
    assert num_loops(None) == 3


def test_auto_takes_the_dense_attention_in_short_rows_and_the_kernel_of_the_platform_in_long_ones():
    assert choose_backend("auto", "cpu", 128) == "dense"
    assert choose_backend("auto", "cpu", 512) == "blockwise"
    assert choose_backend("auto", "tpu", 4096, window=100) == "blockwise"
    assert choose_backend("auto", "tpu", 4096) == "splash"
    assert choose_backend("auto", "gpu", 4096) == "triton"
    assert choose_backend("dense", "cpu", 4096) == "dense"
