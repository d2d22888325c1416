import numpy as np
import pytest
from scipy import stats

from phi4r.errors import UserError
from phi4r.evals.breakdown import grouped
from phi4r.evals.scores import item_bootstrap_interval

CORRECT = np.array([[1, 1], [1, 0], [0, 0], [1, 1]], bool)
TOKENS = np.array([[10, 20], [30, 90], [100, 100], [40, 60]])


def test_groups_worked_by_hand():
    late, early = grouped([2024, 2024, 1999, 2024], CORRECT, TOKENS, TOKENS == 100)[::-1]
    assert (early.label, late.label) == (1999, 2024)
    assert (early.num_items, late.num_items) == (1, 3)
    assert (early.accuracy, late.accuracy) == (0.0, 5 / 6)
    assert (early.mean_tokens, late.mean_tokens) == (100.0, 250 / 6)
    assert (early.mean_tokens_right, early.mean_tokens_wrong) == (None, 100.0)
    assert (late.mean_tokens_right, late.mean_tokens_wrong) == (32.0, 90.0)
    assert (early.truncated, late.truncated) == (1.0, 0.0)


def test_an_item_may_be_in_several_groups_or_in_none():
    labels = [["Algebra", "Geometry"], ["Geometry", "Geometry"], [], ("Algebra",)]
    rows = {row.label: row for row in grouped(labels, CORRECT, TOKENS, TOKENS > 0)}
    assert list(rows) == ["Algebra", "Geometry"]
    assert rows["Algebra"].num_items == 2 and rows["Algebra"].accuracy == 1.0
    assert rows["Geometry"].num_items == 2 and rows["Geometry"].accuracy == 0.75


def test_numbers_come_in_their_order_and_then_texts():
    labels = [10, 9.5, None, "hard"]
    assert [row.label for row in grouped(labels, CORRECT, TOKENS, TOKENS > 0)] == [9.5, 10, None, "hard"]


def test_intervals_are_wilsons_for_one_run_and_over_items_for_several():
    correct = np.array([[True]] * 7 + [[False]] * 3)
    ones = np.ones((10, 1), int)
    (row,) = grouped(["x"] * 10, correct, ones, ones == 0)
    reference = stats.binomtest(7, 10).proportion_ci(method="wilson")
    assert (row.interval.low, row.interval.high) == pytest.approx((reference.low, reference.high), abs=1e-9)
    rng = np.random.default_rng(0)
    correct = rng.random((200, 4)) < rng.random((200, 1))
    ones = np.ones((200, 4), int)
    (row,) = grouped(["x"] * 200, correct, ones, ones == 0)
    interval = item_bootstrap_interval(correct)
    assert (row.interval.low, row.interval.high) == pytest.approx((interval.low, interval.high), abs=0.008)


def test_every_item_needs_a_label():
    with pytest.raises(UserError, match="a label for each item"):
        grouped(["x"], CORRECT, TOKENS, TOKENS > 0)
