import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model import attention
from phi4r.model.attention import attend, visible

BATCH, LENGTH, HEADS, KV_HEADS, HEAD_DIM = 2, 13, 6, 2, 8


def random_inputs(length=LENGTH, seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    shapes = [(BATCH, length, HEADS, HEAD_DIM)] + [(BATCH, KV_HEADS, length, HEAD_DIM)] * 2
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def rows(segments, positions):
    """The same segment ids and positions in both rows, [B T] each."""
    return [jnp.broadcast_to(jnp.asarray(x, jnp.int32), (BATCH, len(x))) for x in (segments, positions)]


def attend_by_hand(query, key, value, segments, positions, window):
    """softmax(q k^T / sqrt(H)) v in float64, one query and one head at a time."""
    query, key, value, segments, positions = (
        np.asarray(x, np.float64) for x in (query, key, value, segments, positions)
    )
    out = np.zeros(query.shape)
    for b, t, n in np.ndindex(query.shape[:3]):
        kv_head = n // (HEADS // KV_HEADS)
        seen = [
            s
            for s in range(key.shape[2])
            if segments[b, s] == segments[b, t] != 0 and 0 <= positions[b, t] - positions[b, s] < (window or 10**9)
        ]
        if seen:
            scores = key[b, kv_head, seen] @ query[b, t, n] / np.sqrt(HEAD_DIM)
            weights = np.exp(scores - scores.max())
            out[b, t, n] = weights @ value[b, kv_head, seen] / weights.sum()
    return out


PACKED = [1] * 5 + [2] * 6 + [0] * 2, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 0, 1]


@pytest.mark.parametrize("window", [None, 1, 3])
def test_attention_equals_the_formula_one_head_at_a_time(window):
    inputs, where = random_inputs(), rows(*PACKED)
    out = attend(*inputs, *where, *where, window=window)
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
    packed = attend(query, key, value, *rows(*PACKED), *rows(*PACKED))
    for start, stop in ((0, 5), (5, 11)):
        where = rows([1] * (stop - start), range(stop - start))
        alone = attend(query[:, start:stop], key[:, :, start:stop], value[:, :, start:stop], *where, *where)
        np.testing.assert_allclose(packed[:, start:stop], alone, atol=1e-6, rtol=0)


def test_padding_on_the_left_changes_nothing():
    query, key, value = random_inputs()
    padded = attend(query, key, value, *(rows([0] * 4 + [1] * 9, [0] * 4 + list(range(9))) * 2))
    alone = attend(query[:, 4:], key[:, :, 4:], value[:, :, 4:], *(rows([1] * 9, range(9)) * 2))
    np.testing.assert_allclose(padded[:, 4:], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("block", [1, 5, 12])
def test_blocks_of_queries_equal_one_block_and_so_do_their_gradients(monkeypatch, block):
    inputs, where = random_inputs(), rows(*PACKED)
    real = (where[0] > 0)[:, :, None, None]
    target = jax.random.normal(jax.random.key(1), inputs[0].shape)

    def loss(inputs):
        out = attend(*inputs, *where, *where, window=4)
        return jnp.sum(jnp.where(real, out, 0.0) * target), out

    (_, whole), whole_grads = jax.value_and_grad(loss, has_aux=True)(inputs)
    monkeypatch.setattr(attention, "QUERY_BLOCK", block)
    (_, blocked), blocked_grads = jax.value_and_grad(loss, has_aux=True)(inputs)
    np.testing.assert_allclose(jnp.where(real, blocked, 0.0), jnp.where(real, whole, 0.0), atol=1e-6, rtol=0)
    for expected, grad in zip(whole_grads, blocked_grads, strict=True):
        np.testing.assert_allclose(grad, expected, atol=2e-6, rtol=0)


def test_a_row_of_nothing_but_padding_gives_no_nan_in_value_or_gradient():
    inputs, where = random_inputs(), rows([0] * LENGTH, range(LENGTH))
    value, grads = jax.value_and_grad(lambda inputs: jnp.sum(attend(*inputs, *where, *where) ** 2))(inputs)
    assert np.isfinite(value)
    assert all(np.isfinite(grad).all() for grad in grads)
