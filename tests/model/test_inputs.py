import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from phi4r.model.inputs import make_token_batch, segment_positions


@st.composite
def packed_rows(draw):
    """Tokens, segment ids (runs of random lengths, padding anywhere) and trained flags; [B T] each."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 12)))
    segments = draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 3)))
    tokens = draw(hnp.arrays(np.int32, shape, elements=st.integers(1, 99)))
    trained = draw(hnp.arrays(bool, shape))
    return tokens, segments, trained


def test_a_packed_row_is_shifted_by_hand():
    batch = make_token_batch(
        np.array([[11, 12, 13, 21, 22, 0]]),
        np.array([[1, 1, 1, 2, 2, 0]]),
        np.array([[False, True, True, True, True, False]]),
    )
    np.testing.assert_array_equal(batch.targets, [[12, 13, 0, 22, 0, 0]])
    np.testing.assert_array_equal(batch.loss_mask, [[1, 1, 0, 1, 0, 0]])
    np.testing.assert_array_equal(batch.positions, [[0, 1, 2, 0, 1, 0]])
    assert batch.loss_mask.dtype == np.float32
    assert all(x.dtype == np.int32 for x in (batch.tokens, batch.targets, batch.segment_ids, batch.positions))


@given(packed_rows())
@settings(max_examples=200, deadline=None)
def test_weight_lies_only_where_the_next_token_is_trained_and_of_the_same_segment(rows):
    tokens, segments, trained = rows
    batch = make_token_batch(tokens, segments, trained)
    for b, t in np.ndindex(tokens.shape):
        is_last = t + 1 == tokens.shape[1] or segments[b, t + 1] != segments[b, t]
        if is_last or segments[b, t] == 0:
            assert batch.loss_mask[b, t] == 0
            assert batch.targets[b, t] == 0
        else:
            assert batch.loss_mask[b, t] == trained[b, t + 1]
            assert batch.targets[b, t] == tokens[b, t + 1]


@given(packed_rows())
@settings(max_examples=100, deadline=None)
def test_positions_count_from_zero_in_every_run(rows):
    _, segments, _ = rows
    positions = segment_positions(segments)
    for b, t in np.ndindex(segments.shape):
        continues = t > 0 and segments[b, t] == segments[b, t - 1]
        assert positions[b, t] == (positions[b, t - 1] + 1 if continues else 0)


def test_numpy_and_jax_give_the_same_batch():
    rng = np.random.default_rng(0)
    tokens, segments = rng.integers(1, 50, (3, 17)), np.sort(rng.integers(0, 4, (3, 17)), axis=1)
    trained = rng.random((3, 17)) < 0.5
    on_host = make_token_batch(tokens, segments, trained)
    on_device = make_token_batch(*(jnp.asarray(x) for x in (tokens, segments, trained)), xp=jnp)
    for name in ("tokens", "targets", "segment_ids", "positions", "loss_mask"):
        np.testing.assert_array_equal(getattr(on_device, name), getattr(on_host, name))
        assert getattr(on_device, name).dtype == getattr(on_host, name).dtype


def test_given_positions_are_kept():
    positions = np.array([[0, 3, 9]])
    batch = make_token_batch(np.ones((1, 3), int), np.ones((1, 3), int), np.ones((1, 3), bool), positions)
    np.testing.assert_array_equal(batch.positions, positions)
