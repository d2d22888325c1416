import jax.numpy as jnp
import numpy as np

from phi4r.rl.segments import MAX_SEGMENTS, segment_sums, spread_segments

IDS = jnp.array([[1, 1, 2, 0, 3, 3], [0, MAX_SEGMENTS, 1, 1, 0, 0]])


def test_values_are_summed_within_the_segments_of_a_row_and_padding_belongs_to_none():
    values = jnp.array([[1.0, 2.0, 4.0, 100.0, 8.0, 16.0], [100.0, 5.0, 1.0, 2.0, 100.0, 100.0]])
    expected = np.zeros((2, MAX_SEGMENTS))
    expected[0, :3] = [3, 4, 24]
    expected[1, [0, -1]] = [3, 5]
    np.testing.assert_array_equal(segment_sums(values, IDS), expected)


def test_every_token_gets_the_value_of_its_segment_and_padding_zero():
    values = jnp.arange(1.0, 2 * MAX_SEGMENTS + 1).reshape(2, MAX_SEGMENTS)
    spread = spread_segments(values, IDS)
    last = 2 * MAX_SEGMENTS
    np.testing.assert_array_equal(spread, [[1, 1, 2, 0, 3, 3], [0, last, MAX_SEGMENTS + 1, MAX_SEGMENTS + 1, 0, 0]])
