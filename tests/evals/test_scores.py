import itertools

import numpy as np
import pytest
from scipy import stats

from phi4r.errors import UserError
from phi4r.evals import scores


def _random_correct(num_items: int, num_runs: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((num_items, num_runs)) < rng.random((num_items, 1))


def test_a_table_worked_by_hand():
    correct = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]], bool)
    num_tokens = np.array([[10, 20, 60], [30, 80, 90], [100, 100, 100], [40, 50, 60]])
    truncated = num_tokens == 100
    classes = [["6", "6", "5"], ["3", "4", "4"], [None, None, None], ["1", "1", "1"]]
    result = scores.summarise_scores(correct, num_tokens, truncated, classes)
    assert result.num_items == 4 and result.num_runs == 3
    assert result.accuracy == 0.5
    assert result.run_accuracies == (0.75, 0.5, 0.25)
    assert result.sd == 0.25
    assert (result.best_run, result.worst_run) == (0.75, 0.25)
    assert result.pass_at_k == 0.75
    assert result.all_at_k == 0.25
    assert result.majority_at_k == 0.5
    assert result.truncated == 0.25
    assert result.mean_tokens == pytest.approx(740 / 12)
    assert result.mean_tokens_right == 35.0
    assert result.mean_tokens_wrong == pytest.approx(530 / 6)


def test_one_run_has_wilsons_interval_and_no_spread():
    correct = np.array([[True]] * 7 + [[False]] * 3)
    ones = np.ones((10, 1), int)
    result = scores.summarise_scores(correct, ones, ones == 0, [["a"]] * 10)
    reference = stats.binomtest(7, 10).proportion_ci(method="wilson")
    assert result.sd is None
    assert (result.interval.low, result.interval.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_lengths_of_an_empty_side_are_none_instead_of_nan():
    ones = np.ones((2, 2), int)
    result = scores.summarise_scores(ones == 1, ones, ones == 0, [["a", "a"]] * 2)
    assert result.mean_tokens_right == 1.0 and result.mean_tokens_wrong is None


@pytest.mark.parametrize("right, items", [(0, 20), (20, 20), (1, 3), (431, 500)])
def test_wilson_agrees_with_scipy(right, items):
    reference = stats.binomtest(right, items).proportion_ci(confidence_level=0.95, method="wilson")
    ours = scores.wilson_interval(right, items)
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_item_bootstrap_agrees_with_scipys_bootstrap_of_item_means():
    correct = _random_correct(60, 4, seed=1)
    reference = stats.bootstrap(
        (correct.mean(axis=1),), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(5)
    ).confidence_interval
    ours = scores.item_bootstrap_interval(correct)
    assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=0.006)


def test_more_runs_on_the_same_items_do_not_narrow_the_interval():
    once = (np.arange(100) < 50)[:, None]
    ours, repeated = (scores.item_bootstrap_interval(np.repeat(once, n, axis=1)) for n in (1, 20))
    assert ours == repeated
    assert ours.low == pytest.approx(0.40, abs=0.011) and ours.high == pytest.approx(0.60, abs=0.011)


@pytest.mark.parametrize(
    "n, c, k, expected", [(5, 0, 3, 0.0), (5, 1, 1, 0.2), (5, 2, 3, 0.9), (5, 3, 3, 1.0), (4, 2, 2, 5 / 6)]
)
def test_pass_at_k_at_points_worked_by_hand(n, c, k, expected):
    assert scores.pass_at_k(n, c, k) == pytest.approx(expected)


def test_pass_at_k_is_the_mean_over_all_draws_of_k_answers():
    answers = [True, True, False, False, False, False, True]
    for k in range(1, 8):
        draws = [any(draw) for draw in itertools.combinations(answers, k)]
        assert scores.pass_at_k(7, 3, k) == pytest.approx(np.mean(draws))


@pytest.mark.parametrize("k", [0, 6])
def test_pass_at_k_needs_k_samples(k):
    with pytest.raises(UserError, match="make more runs"):
        scores.pass_at_k(5, 2, k)


@pytest.mark.parametrize(
    "classes, correct, expected",
    [
        (["1/2", "1/2", "3"], [True, True, False], 1.0),
        (["3", "3", "1/2"], [False, False, True], 0.0),
        (["a", "b"], [True, False], 0.5),
        (["a", "b", "c"], [False, True, False], 1 / 3),
        (["a", None, None], [True, False, False], 1.0),
        ([None, None], [False, False], 0.0),
    ],
)
def test_majority_counts_classes_and_takes_ties_in_expectation(classes, correct, expected):
    assert scores.majority_at_k(classes, correct) == pytest.approx(expected)


def test_the_paired_test_of_single_runs_is_the_exact_mcnemar_test():
    a, b = _random_correct(80, 1, seed=2), _random_correct(80, 1, seed=3)
    gained, lost = int((b & ~a).sum()), int((a & ~b).sum())
    result = scores.paired_test(a, b)
    assert result.difference == pytest.approx((gained - lost) / 80)
    assert result.p_value == pytest.approx(stats.binomtest(gained, gained + lost).pvalue, abs=1e-12)


def test_the_paired_test_of_many_runs_agrees_with_scipys_exact_permutation_test():
    a, b = _random_correct(12, 3, seed=4), _random_correct(12, 5, seed=5)
    reference = stats.permutation_test(
        (b.mean(axis=1) - a.mean(axis=1),),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert scores.paired_test(a, b).p_value == pytest.approx(reference.pvalue, abs=1e-12)


def test_equal_models_differ_by_nothing_and_a_better_one_clearly():
    a = _random_correct(300, 5, seed=6)
    same = scores.paired_test(a, a)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    better = scores.paired_test(a, a | (_random_correct(300, 5, seed=7)))
    assert better.p_value < 1e-6
    assert 0.1 < better.interval.low < better.difference < better.interval.high


def test_a_paired_test_needs_equal_items_and_scores_need_a_table():
    with pytest.raises(UserError, match="same items"):
        scores.paired_test(np.ones((3, 1), bool), np.ones((4, 1), bool))
    with pytest.raises(UserError, match="items x runs"):
        scores.run_accuracies(np.ones((0, 3), bool))
