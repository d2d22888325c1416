import numpy as np

from phi4r.rl.trajectories import make_trajectories, samples_to_batch
from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, Samples

END = 0  # the end token has the id that also pads, as in early files of the family


def samples() -> Samples:
    """Prompts [5 6] and [7], padded on the left to 3; responses [8 END] and [9 9 9], cut off at 3."""
    return Samples(
        tokens=np.array([[END, 5, 6, 8, END, END], [END, END, 7, 9, 9, 9]], np.int32),
        segment_ids=np.array([[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]], np.int32),
        response_mask=np.array([[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]], bool),
        logprobs=np.array([[0, 0, 0, -1, -2, 0], [0, 0, 0, -3, -4, -5]], np.float32),
        finish_reason=np.array([FINISH_STOP, FINISH_LENGTH], np.int32),
    )


def test_every_response_token_is_a_target_the_end_token_too():
    batch = samples_to_batch(samples())
    np.testing.assert_array_equal(batch.loss_mask, [[0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0]])
    np.testing.assert_array_equal(np.asarray(batch.targets)[0, 2:4], [8, END])
    np.testing.assert_array_equal(np.asarray(batch.targets)[1, 2:5], [9, 9, 9])


def test_positions_count_from_the_first_prompt_token_of_left_padded_rows():
    positions = np.asarray(samples_to_batch(samples()).positions)
    np.testing.assert_array_equal(positions[0, 1:5], [0, 1, 2, 3])
    np.testing.assert_array_equal(positions[1, 2:], [0, 1, 2, 3])


def test_sampler_logprobs_are_those_of_the_targets():
    made = make_trajectories(samples(), np.array([1.0, -1.0], np.float32))
    np.testing.assert_array_equal(made.sampler_logprobs, [[0, 0, -1, -2, 0, 0], [0, 0, -3, -4, -5, 0]])
    np.testing.assert_array_equal(made.advantages, [1, -1])
