import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.rl.segments import MAX_SEGMENTS
from phi4r.rl.trajectories import PackedShape, pack_trajectories, rows_in_use, samples_to_batch
from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, Samples

END = 0  # the end token has the id that also pads, as in early files of the family


def make_samples(tokens, segment_ids, response_mask, logprobs, finish_reason) -> Samples:
    extra = {"entropies": np.zeros_like(logprobs)} if "entropies" in Samples.__dataclass_fields__ else {}
    return Samples(tokens, segment_ids, response_mask, logprobs, finish_reason=finish_reason, **extra)


def samples() -> Samples:
    """Prompts [5 6] and [7], padded on the left to 3; responses [8 END] and [9 9 9], cut off at 3."""
    return make_samples(
        tokens=np.array([[END, 5, 6, 8, END, END], [END, END, 7, 9, 9, 9]], np.int32),
        segment_ids=np.array([[0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1]], np.int32),
        response_mask=np.array([[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]], bool),
        logprobs=np.array([[0, 0, 0, -1, -2, 0], [0, 0, 0, -3, -4, -5]], np.float32),
        finish_reason=np.array([FINISH_STOP, FINISH_LENGTH], np.int32),
    )


ADVANTAGES = np.array([1.0, -1.0], np.float32)


def pack(shape, responses=(0, 1)):
    return pack_trajectories(samples(), ADVANTAGES, shape, responses)


def test_every_response_token_is_a_target_the_end_token_too():
    batch = samples_to_batch(samples())
    np.testing.assert_array_equal(batch.loss_mask, [[0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0]])
    np.testing.assert_array_equal(np.asarray(batch.targets)[0, 2:4], [8, END])
    np.testing.assert_array_equal(np.asarray(batch.targets)[1, 2:5], [9, 9, 9])


def test_positions_count_from_the_first_prompt_token_of_left_padded_rows():
    positions = np.asarray(samples_to_batch(samples()).positions)
    np.testing.assert_array_equal(positions[0, 1:5], [0, 1, 2, 3])
    np.testing.assert_array_equal(positions[1, 2:], [0, 1, 2, 3])


def test_two_responses_in_a_row_by_hand():
    packed = pack(PackedShape(num_rows=2, row_length=9))
    np.testing.assert_array_equal(packed.batch.tokens, [[5, 6, 8, END, 7, 9, 9, 9, 0], [0] * 9])
    np.testing.assert_array_equal(packed.batch.segment_ids, [[1, 1, 1, 1, 2, 2, 2, 2, 0], [0] * 9])
    np.testing.assert_array_equal(packed.batch.positions[0, :8], [0, 1, 2, 3, 0, 1, 2, 3])
    np.testing.assert_array_equal(packed.batch.targets, [[6, 8, END, 0, 9, 9, 9, 0, 0], [0] * 9])
    np.testing.assert_array_equal(packed.batch.loss_mask, [[0, 1, 1, 0, 1, 1, 1, 0, 0], [0] * 9])
    np.testing.assert_array_equal(packed.sampler_logprobs, [[0, -1, -2, 0, -3, -4, -5, 0, 0], [0] * 9])
    np.testing.assert_array_equal(packed.advantages, [[0, 1, 1, 0, -1, -1, -1, 0, 0], [0] * 9])
    assert rows_in_use(packed).tolist() == [True, False]


def test_responses_that_are_left_out_are_nowhere():
    packed = pack(PackedShape(num_rows=2, row_length=9), responses=[1])
    np.testing.assert_array_equal(packed.batch.tokens, [[7, 9, 9, 9, 0, 0, 0, 0, 0], [0] * 9])
    empty = pack(PackedShape(num_rows=2, row_length=9), responses=[])
    assert not rows_in_use(empty).any()


def test_rows_fill_one_micro_batch_after_the_other():
    # Of six rows in three micro-batches, 0 and 3 are the first (`phi4r.train.step.split_rows`).
    packed = pack(PackedShape(num_rows=6, row_length=6, num_microbatches=3))
    assert rows_in_use(packed).tolist() == [True, False, False, True, False, False]


def random_samples(num, prompt_length, max_response, seed=0) -> Samples:
    """Responses of every length, one token to the longest, behind prompts of every length."""
    rng = np.random.default_rng(seed)
    column = np.arange(prompt_length + max_response)[None]
    start = prompt_length - rng.integers(1, prompt_length + 1, (num, 1))
    end = prompt_length + rng.integers(1, max_response + 1, (num, 1))
    real = (column >= start) & (column < end)
    drawn = real & (column >= prompt_length)
    return make_samples(
        tokens=rng.integers(1, 100, real.shape).astype(np.int32),
        segment_ids=real.astype(np.int32),
        response_mask=drawn,
        logprobs=np.where(drawn, rng.normal(size=real.shape), 0.0).astype(np.float32),
        finish_reason=np.zeros(num, np.int32),
    )


@pytest.mark.parametrize("row_length", [0, 23, 40, 1000])
def test_every_response_is_packed_once_and_whole(row_length):
    given = random_samples(40, 6, 12)
    advantages = np.arange(1.0, 41.0, dtype=np.float32)
    shape = PackedShape.fitting(40, 18, row_length=row_length, num_microbatches=2, row_shards=4)
    packed = pack_trajectories(given, advantages, shape, np.arange(40))
    assert packed.batch.tokens.shape == (shape.num_rows, shape.row_length) and shape.num_rows % 8 == 0
    assert packed.batch.segment_ids.max() <= MAX_SEGMENTS
    found = set()
    for row in range(shape.num_rows):
        for segment in range(1, packed.batch.segment_ids[row].max() + 1):
            here = packed.batch.segment_ids[row] == segment
            response = int(packed.advantages[row][here].max()) - 1
            real, drawn = given.segment_ids[response] > 0, given.response_mask[response]
            np.testing.assert_array_equal(packed.batch.tokens[row][here], given.tokens[response][real])
            counted = packed.batch.loss_mask[row] * here > 0
            np.testing.assert_array_equal(packed.batch.targets[row][counted], given.tokens[response][drawn])
            np.testing.assert_array_equal(packed.sampler_logprobs[row][counted], given.logprobs[response][drawn])
            found.add(response)
    assert found == set(range(40))


def test_responses_that_are_all_as_long_as_they_can_be_find_room():
    longest = random_samples(40, 6, 12)
    longest = longest.replace(
        segment_ids=np.ones_like(longest.segment_ids), response_mask=np.arange(18)[None].repeat(40, 0) >= 6
    )
    for row_length in (18, 35, 36, 54, 1000):
        shape = PackedShape.fitting(40, 18, row_length=row_length)
        packed = pack_trajectories(longest, np.ones(40, np.float32), shape, np.arange(40))
        assert packed.batch.loss_mask.sum() == 40 * 12
        assert rows_in_use(packed).all()  # and no row is wasted on the worst case


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"row_length": 17}, "row_length=17 is less than .* = 18 tokens"),
        ({"row_length": 22, "context": 2}, "make it a multiple of 4"),
    ],
)
def test_rows_that_hold_no_response_or_do_not_divide_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        PackedShape.fitting(8, 18, **arguments)


def test_without_a_row_length_rows_are_as_long_as_the_devices_of_a_row_need():
    assert PackedShape.fitting(8, 18, context=4) == PackedShape(8, 24)
