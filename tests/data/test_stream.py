from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from phi4r.data.stream import ExampleOrder, RowStream


def test_three_to_one_by_hand():
    sources, _ = ExampleOrder([100, 100], [3.0, 1.0], seed=0).addresses(0, 8)
    assert sources.tolist() == [0, 0, 0, 1, 0, 0, 0, 1]


def test_every_stretch_of_the_stream_has_the_shares_of_the_weights():
    weights = np.array([0.5, 0.2, 7.0, 2.3])
    sources, _ = ExampleOrder([10, 20, 30, 40], weights, seed=0).addresses(0, 5000)
    supplied = np.cumsum(sources[:, None] == np.arange(4), axis=0)
    expected = np.arange(1, 5001)[:, None] * weights / weights.sum()
    assert np.abs(supplied - expected).max() < len(weights)


def test_an_epoch_of_a_source_holds_each_row_once_in_a_new_order():
    order = ExampleOrder([13, 7], [1.0, 2.0], seed=3)
    sources, rows = order.addresses(0, 300)
    for source, size in ((0, 13), (1, 7)):
        drawn = rows[sources == source]
        epochs = [drawn[start : start + size].tolist() for start in range(0, len(drawn) - size + 1, size)]
        assert len(epochs) >= 7
        assert all(sorted(epoch) == list(range(size)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_the_order_is_a_function_of_the_index_not_of_how_it_is_read():
    whole = np.stack(ExampleOrder([13, 7], [1.0, 2.0], seed=3).addresses(0, 200))
    order = ExampleOrder([13, 7], [1.0, 2.0], seed=3)
    for first, count in ((150, 50), (0, 1), (37, 90), (199, 1)):
        assert np.stack(order.addresses(first, count)).tolist() == whole[:, first : first + count].tolist()


def test_another_seed_gives_another_order():
    rows = [ExampleOrder([1000], [1.0], seed=seed).addresses(0, 1000)[1].tolist() for seed in (0, 1)]
    assert rows[0] != rows[1]


def make_stream(window=32, pack=True, seed=5):
    lengths = [np.random.default_rng(source).integers(1, 40, size) for source, size in enumerate((50, 30))]
    order = ExampleOrder([50, 30], [1.0, 1.0], seed=seed)
    return RowStream(order, lengths, row_length=40, window=window, pack=pack, seed=seed), lengths, order


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("window", [1, 7, 32, 200])
def test_no_example_of_the_stream_is_lost_or_doubled(pack, window):
    stream, lengths, order = make_stream(window, pack)
    seen, row = [], 0
    while len(seen) < 5 * window:
        placed = stream.row(row)
        assert sum(lengths[p.source][p.row] for p in placed) <= 40
        assert pack or len(placed) == 1
        seen += placed
        row += 1
    seen.sort()
    sources, rows = order.addresses(0, len(seen))
    complete = len(seen) // window * window  # a window may be read in part
    assert [p.index for p in seen[:complete]] == list(range(complete))
    assert [(p.source, p.row) for p in seen[:complete]] == list(
        zip(sources[:complete].tolist(), rows[:complete].tolist(), strict=True)
    )


def test_rows_are_the_same_in_any_order_and_from_any_thread():
    forward, _, _ = make_stream(window=5)
    expected = [forward.row(number) for number in range(60)]
    shuffled = np.random.default_rng(0).permutation(60).tolist()
    backward, _, _ = make_stream(window=5)
    assert [backward.row(number) for number in shuffled] == [expected[number] for number in shuffled]
    together, _, _ = make_stream(window=5)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(together.row, shuffled)) == [expected[number] for number in shuffled]


def test_the_first_window_says_how_full_rows_are_and_with_how_many_examples():
    # Lengths 6, 5, 4, 3, 2 fill two rows of 10 exactly; one a row they fill 20 of 50.
    lengths = [np.array([6, 4, 5, 3, 2])]
    for pack, fill, examples in ((True, 1.0, 2.5), (False, 0.4, 1.0)):
        order = ExampleOrder([5], [1.0], seed=0)
        stream = RowStream(order, lengths, row_length=10, window=5, pack=pack, seed=0)
        assert stream.first_window() == pytest.approx((fill, examples))
