import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.attention import Tokens, attend, dense, visible

BATCH, LENGTH, KV_HEADS, QUERIES, HEAD_DIM = 2, 13, 2, 3, 8


def random_inputs(length=LENGTH, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    shapes = [(BATCH, length, KV_HEADS, QUERIES, HEAD_DIM)] + [(BATCH, KV_HEADS, length, HEAD_DIM)] * 2
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def rows(segments, positions):
    """The same segment ids and positions in both rows."""
    return Tokens(*(jnp.broadcast_to(jnp.asarray(x, jnp.int32), (BATCH, len(x))) for x in (segments, positions)))


def attend_by_hand(query, key, value, segments, positions, window):
    """softmax(q k^T / sqrt(H)) v in float64, one query and one head at a time."""
    query, key, value, segments, positions = (
        np.asarray(x, np.float64) for x in (query, key, value, segments, positions)
    )
    out = np.zeros(query.shape)
    for b, t, k, q in np.ndindex(query.shape[:4]):
        seen = [
            s
            for s in range(key.shape[2])
            if segments[b, s] == segments[b, t] != 0 and 0 <= positions[b, t] - positions[b, s] < (window or 10**9)
        ]
        if seen:
            scores = key[b, k, seen] @ query[b, t, k, q] / np.sqrt(HEAD_DIM)
            weights = np.exp(scores - scores.max())
            out[b, t, k, q] = weights @ value[b, k, seen] / weights.sum()
    return out


PACKED = [1] * 5 + [2] * 6 + [0] * 2, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 0, 1]


@pytest.mark.parametrize("window", [None, 1, 3])
def test_attention_equals_the_formula_one_head_at_a_time(window):
    inputs, where = random_inputs(), rows(*PACKED)
    out = attend(*inputs, where, where, window=window)
    real = np.asarray(where[0]) > 0
    np.testing.assert_allclose(np.asarray(out)[real], attend_by_hand(*inputs, *where, window)[real], atol=2e-6, rtol=0)


def test_the_mask_shows_a_query_its_own_segment_up_to_its_own_position():
    segments, positions = jnp.asarray([[1, 1, 2, 2, 0]]), jnp.asarray([[0, 1, 0, 1, 0]])
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]]
    mask = visible(segments, positions, segments, positions)
    np.testing.assert_array_equal(mask[0], np.array(expected, bool))


def test_a_window_of_w_shows_w_positions_with_the_query_itself():
    segments, positions = jnp.ones((1, 6), jnp.int32), jnp.arange(6)[None]
    seen = visible(segments, positions, segments, positions, 3)[0].sum(axis=-1)
    np.testing.assert_array_equal(seen, [1, 2, 3, 3, 3, 3])


def test_packed_segments_attend_as_if_apart():
    query, key, value = random_inputs()
    packed = attend(query, key, value, rows(*PACKED), rows(*PACKED))
    for start, stop in ((0, 5), (5, 11)):
        where = rows([1] * (stop - start), range(stop - start))
        alone = attend(query[:, start:stop], key[:, :, start:stop], value[:, :, start:stop], where, where)
        np.testing.assert_allclose(packed[:, start:stop], alone, atol=1e-6, rtol=0)


def test_padding_on_the_left_changes_nothing():
    query, key, value = random_inputs()
    padded = attend(query, key, value, *[rows([0] * 4 + [1] * 9, [0] * 4 + list(range(9)))] * 2)
    alone = attend(query[:, 4:], key[:, :, 4:], value[:, :, 4:], *[rows([1] * 9, range(9))] * 2)
    np.testing.assert_allclose(padded[:, 4:], alone, atol=1e-6, rtol=0)


def output_and_gradients(inputs, **kwargs):
    """Returns the output at real positions, and the gradients of a weighted sum of it."""
    where = rows(*PACKED)
    real = (where[0] > 0)[:, :, None, None, None]
    target = jax.random.normal(jax.random.key(1), inputs[0].shape)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(inputs):
        out = jnp.where(real, attend(*inputs, where, where, **kwargs), 0.0)
        return jnp.sum(out * target), out

    (_, out), grads = loss(inputs)
    return [out, *grads]


@pytest.mark.parametrize("block", [1, 4, 5, 12])
def test_blocks_of_queries_equal_one_block_and_so_do_their_gradients(monkeypatch, block):
    whole = output_and_gradients(random_inputs(), window=4)
    monkeypatch.setattr(dense, "QUERY_BLOCK", block)
    in_parts = output_and_gradients(random_inputs(), window=4, backend="dense")
    for expected, part in zip(whole, in_parts, strict=True):
        np.testing.assert_allclose(part, expected, atol=2e-6, rtol=0)


def test_a_row_of_nothing_but_padding_gives_no_nan_in_value_or_gradient():
    inputs, where = random_inputs(), rows([0] * LENGTH, range(LENGTH))
    value, grads = jax.value_and_grad(lambda inputs: jnp.sum(attend(*inputs, where, where) ** 2))(inputs)
    assert np.isfinite(value)
    assert all(np.isfinite(grad).all() for grad in grads)
