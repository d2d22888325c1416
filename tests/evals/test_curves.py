import itertools
import time

import numpy as np
import pytest
from scipy import stats

from phi4r.evals import curves
from phi4r.evals.breakdown import grouped
from phi4r.evals.distributions import two_level_interval
from phi4r.evals.scores import item_bootstrap_interval, pass_at_k
from phi4r.evals.vote_chances import majority_of_k


def _random_correct(num_items: int, num_runs: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((num_items, num_runs)) < rng.random((num_items, 1))


def test_best_and_worst_of_k_of_scores_worked_by_hand():
    values = np.array([[0.0, 1.0, 0.5]])
    # Pairs: (0, 1), (0, 0.5), (1, 0.5).
    np.testing.assert_allclose(curves.best_of_k(values), [[0.5, 2.5 / 3, 1.0]], rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves.worst_of_k(values), [[0.5, 0.5 / 3, 0.0]], rtol=0, atol=1e-12)


def test_the_best_of_verdicts_is_the_unbiased_pass_at_k():
    correct = _random_correct(40, 11, seed=0)
    curve = curves.best_of_k_curve(correct)
    expected = [np.mean([pass_at_k(11, int(hits), k) for hits in correct.sum(axis=1)]) for k in range(1, 12)]
    np.testing.assert_allclose(curve.mean, expected, rtol=0, atol=1e-12)


def test_best_and_worst_of_verdicts_are_hypergeometric():
    num_runs = 50
    correct = np.arange(num_runs) < np.array([[0], [1], [17], [49], [50]])
    ks = np.arange(1, num_runs + 1)
    hits = correct.sum(axis=1)[:, None]
    none_right = stats.hypergeom.pmf(0, num_runs, hits, ks)
    all_right = stats.hypergeom.pmf(ks, num_runs, hits, ks)
    np.testing.assert_allclose(curves.best_of_k(correct), 1 - none_right, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves.worst_of_k(correct), all_right, rtol=0, atol=1e-12)


def test_the_best_run_of_k_is_the_mean_over_all_choices_of_k_runs():
    correct = _random_correct(9, 6, seed=1)
    accuracies = correct.mean(axis=0)
    for k in range(1, 7):
        choices = list(itertools.combinations(accuracies, k))
        assert curves.best_run_of_k(correct)[k - 1] == pytest.approx(np.mean([max(c) for c in choices]))
        assert curves.worst_run_of_k(correct)[k - 1] == pytest.approx(np.mean([min(c) for c in choices]))


def test_the_band_agrees_with_scipys_bootstrap_of_the_items_at_every_k():
    correct = _random_correct(60, 5, seed=2)
    per_item = curves.best_of_k(correct)
    curve = curves.best_of_k_curve(correct)
    for k in (1, 2, 5):
        reference = stats.bootstrap(
            (per_item[:, k - 1],), np.mean, method="percentile", n_resamples=10000, rng=np.random.default_rng(3)
        ).confidence_interval
        ours = curve.low[k - 1], curve.high[k - 1]
        assert ours == pytest.approx((reference.low, reference.high), abs=0.012)


def test_the_band_of_single_answers_is_the_interval_of_the_accuracy():
    correct = _random_correct(80, 4, seed=4)
    curve = curves.best_of_k_curve(correct)
    interval = item_bootstrap_interval(correct)
    assert curve.mean[0] == pytest.approx(correct.mean())
    assert (curve.low[0], curve.high[0]) == pytest.approx((interval.low, interval.high), abs=0.012)


def test_a_seed_gives_one_band_and_equal_items_none():
    correct = _random_correct(30, 4, seed=5)
    again, other = curves.best_of_k_curve(correct), curves.best_of_k_curve(correct, seed=1)
    np.testing.assert_array_equal(curves.best_of_k_curve(correct).low, again.low)
    assert (again.low != other.low).any()
    flat = curves.best_of_k_curve(np.tile([True, False], (20, 1)))
    np.testing.assert_allclose([flat.low, flat.high], [flat.mean] * 2, rtol=0, atol=1e-12)


def test_majority_curves_meet_accuracy_at_one_and_the_vote_at_all():
    correct = _random_correct(50, 7, seed=6)
    classes = [["right" if right else ("wrong", run) for run, right in enumerate(row)] for row in correct]
    curve = curves.majority_of_k_curve(classes, correct)
    assert curve.mean[0] == pytest.approx(correct.mean())
    np.testing.assert_array_less(curve.low[:-1], curve.mean[:-1])
    # Wrong answers that all differ lose to two right ones, and one right answer among seven ties.
    hits = correct.sum(axis=1)
    assert curve.mean[-1] == pytest.approx(np.mean(np.select([hits >= 2, hits == 1], [1.0, 1 / 7])))


def test_fifty_runs_of_a_thousand_items_take_seconds():
    num_items, num_runs = 1000, 50
    rng = np.random.default_rng(7)
    correct = _random_correct(num_items, num_runs, seed=7)
    wrong = rng.geometric(0.2, correct.shape)
    classes = [
        ["right" if r else int(w) for r, w in zip(*row, strict=True)] for row in zip(correct, wrong, strict=True)
    ]
    tokens = rng.integers(1, 30000, correct.shape)
    started = time.process_time()
    curves.majority_of_k_curve(classes, correct)
    curves.best_of_k_curve(correct)
    curves.worst_of_k_curve(correct)
    curves.best_run_of_k(correct)
    two_level_interval(correct)
    grouped([1983 + i % 40 for i in range(num_items)], correct, tokens, tokens > 29000)
    assert time.process_time() - started < 10.0


def test_majority_of_no_answers_and_of_one_run():
    none = majority_of_k([[None, None]], np.zeros((1, 2), bool))
    np.testing.assert_array_equal(none, [[0.0, 0.0]])
    np.testing.assert_array_equal(majority_of_k([["a"], ["b"]], np.array([[True], [False]])), [[1.0], [0.0]])
