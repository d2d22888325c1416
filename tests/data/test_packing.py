import numpy as np
import pytest

from phi4r.data.packing import PackReport, Segment, best_fit, pack_report, pack_rows, plan_rows, stretched_positions
from phi4r.model.inputs import make_token_batch


def test_best_fit_decreasing_by_hand():
    # 6 opens row 0 (4 left), 5 opens row 1 (5 left), 4 fills row 0, 3 and 2 fill row 1.
    assert best_fit([6, 4, 5, 3, 2], 10).tolist() == [0, 0, 1, 1, 1]


def test_the_fullest_row_that_fits_is_taken_not_the_first():
    # 7 (4 left in row 0), 5 and 5 (1 left in row 1): the 1 belongs into row 1, where first-fit would take row 0.
    assert best_fit([7, 5, 5, 1], 11).tolist() == [0, 1, 1, 1]


def naive_loads(lengths, row_length):
    loads = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, load in enumerate(loads) if load + length <= row_length]
        if fitting:
            loads[max(fitting, key=lambda row: loads[row])] += length
        else:
            loads.append(length)
    return sorted(loads)


@pytest.mark.parametrize("seed", range(20))
def test_best_fit_equals_a_search_over_all_rows(seed):
    rng = np.random.default_rng(seed)
    row_length = int(rng.integers(1, 60))
    lengths = rng.integers(1, row_length + 1, size=rng.integers(1, 200))
    loads = np.bincount(best_fit(lengths, row_length), weights=lengths).astype(int)
    assert sorted(loads.tolist()) == naive_loads(lengths.tolist(), row_length)


@pytest.mark.parametrize("lengths", [[3, 11], [0, 3]])
def test_a_length_that_no_row_can_hold_is_refused(lengths):
    with pytest.raises(ValueError, match="between 1 and 10"):
        best_fit(lengths, 10)


def test_long_rows_are_filled_almost_wholly():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(8.3, 0.8, 4096), 30, 32768).astype(int)  # mean 5.5k, as in section 2
    num_rows = best_fit(lengths, 32768).max() + 1
    assert lengths.sum() / (num_rows * 32768) > 0.99


@pytest.mark.parametrize("pack", [True, False])
def test_a_plan_holds_every_example_once_and_no_row_too_full(pack):
    lengths = np.random.default_rng(0).integers(1, 30, size=100)
    plan = plan_rows(lengths, 30, pack=pack, rng=np.random.default_rng(1))
    rows = [plan.row(index) for index in range(plan.num_rows)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(100))
    assert max(lengths[row].sum() for row in rows) <= 30
    assert all(len(row) > 0 for row in rows)
    assert all(np.all(np.diff(row) > 0) for row in rows)
    if not pack:
        assert plan.num_rows == 100


def test_rows_do_not_come_in_the_order_of_their_lengths():
    lengths = np.arange(51, 101)  # no two fit into a row of 100, so best fit opens rows from long to short
    plan = plan_rows(lengths, 100, pack=True, rng=np.random.default_rng(0))
    first_half = np.concatenate([plan.row(index) for index in range(25)])
    assert 70 < lengths[first_half].mean() < 81  # 88 if they did, 75.5 in the mean


def test_packed_rows_by_hand():
    first = Segment([11, 12, 13], [False, True, True], [0, 4, 9])
    second = Segment([21, 22], [False, True], [0, 1])
    packed = pack_rows([[first, second], [second]], 6)
    assert packed.tokens.tolist() == [[11, 12, 13, 21, 22, 0], [21, 22, 0, 0, 0, 0]]
    assert packed.segment_ids.tolist() == [[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0]]
    assert packed.trained.tolist() == [[False, True, True, False, True, False], [False, True] + [False] * 4]
    assert packed.positions.tolist() == [[0, 4, 9, 0, 1, 0], [0, 1, 0, 0, 0, 0]]


def test_segments_that_do_not_fit_are_refused():
    segment = Segment([1, 2, 3], [True] * 3, [0, 1, 2])
    with pytest.raises(ValueError, match="row 0 needs 6 tokens"):
        pack_rows([[segment, segment]], 5)


def test_packed_segments_have_the_targets_and_mask_that_they_have_alone():
    rng = np.random.default_rng(0)
    segments = []
    for length in (5, 1, 7, 3):
        tokens, trained = rng.integers(0, 3, length), rng.random(length) < 0.7  # token 0 occurs inside as well
        segments.append(Segment(tokens, trained, np.arange(length)))
    packed = pack_rows([segments], 20)
    row = make_token_batch(packed.tokens, packed.segment_ids, packed.trained, packed.positions)
    start = 0
    for segment in segments:
        end = start + len(segment.tokens)
        alone = pack_rows([[segment]], 20)
        alone = make_token_batch(alone.tokens, alone.segment_ids, alone.trained)
        for name in ("tokens", "targets", "positions", "loss_mask"):
            assert getattr(row, name)[0, start:end].tolist() == getattr(alone, name)[0, : end - start].tolist(), name
        assert row.loss_mask[0, end - 1] == 0  # the last token predicts neither a pad nor the next document
        start = end
    assert row.loss_mask[0, start:].sum() == 0
    trained_targets = sum(int(np.sum(segment.trained[1:])) for segment in segments)
    assert row.loss_mask.sum() == trained_targets


def test_stretched_positions_are_a_sorted_subset_of_the_range():
    rng = np.random.default_rng(0)
    for _ in range(50):
        positions = stretched_positions(20, 2.5, rng)
        assert positions.dtype == np.int32
        assert len(positions) == 20 and np.all(np.diff(positions) > 0)
        assert positions[0] >= 0 and positions[-1] < 50
    assert stretched_positions(20, 1.0, rng).tolist() == list(range(20))


def test_stretches_are_drawn_evenly_between_none_and_the_most():
    rng = np.random.default_rng(0)
    # Of n positions out of a range r the last is at n (r + 1) / (n + 1) - 1 in the mean; r is 150 in the mean here.
    last = np.mean([stretched_positions(100, 2.0, rng)[-1] for _ in range(2000)])
    assert last == pytest.approx(100 * 151.5 / 101 - 1, abs=3.0)  # 4.5 standard deviations of 29 / sqrt(2000)


def test_a_report_by_hand():
    # First shard: 6 + 4 and 5 + 3 + 2 fill two rows of 10; 11 and 12 fit into none. Second: 7 and 4 take a row each.
    report = pack_report([np.array([6, 11, 4, 5, 3, 12, 2]), np.array([7, 4])], 10)
    assert report == PackReport(10, 7, 31, 4, 3, num_overlong=2, longest=12)
    assert report.fill == 31 / 40 and report.mean_segments == 7 / 4
    assert str(report) == (
        "7 examples with 31 tokens in 4 rows of 10: fill 77.50%, 1.75 segments a row in the mean and 3 at most; "
        "2 are longer than a row, the longest 12, and in none"
    )


def test_a_report_of_nothing_that_fits():
    assert pack_report([], 10) == PackReport(10)
    assert pack_report([np.array([11])], 10) == PackReport(10, num_overlong=1, longest=11)
    assert PackReport(10).fill == 0.0 and "longest has 0" in str(PackReport(10))


def test_a_report_counts_the_rows_that_training_packs():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 101, size=1000)
    plans = [plan_rows(part, 100, pack=True, rng=rng) for part in (lengths[:600], lengths[600:])]
    report = pack_report([lengths[:600], lengths[600:]], 100)
    assert report.num_rows == sum(plan.num_rows for plan in plans)
    assert report.most_segments == max(len(plan.row(i)) for plan in plans for i in range(plan.num_rows))
    assert report.num_tokens == lengths.sum()
