import numpy as np
import pytest
from scipy import stats

from phi4r.errors import UserError
from phi4r.evals.distributions import accuracy_histogram, empirical_distribution, kernel_density, two_level_interval
from phi4r.evals.scores import item_bootstrap_interval


def _two_level_by_loops(correct: np.ndarray, num_resamples: int) -> tuple[float, float]:
    rng = np.random.default_rng(1)
    num_items, num_runs = correct.shape
    means = []
    for _ in range(num_resamples):
        items = rng.integers(num_items, size=num_items)
        runs = rng.integers(num_runs, size=(num_items, num_runs))
        means.append(correct[items[:, None], runs].mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("num_items, num_runs", [(40, 2), (30, 10)])
def test_the_two_level_bootstrap_draws_items_and_then_their_runs(num_items, num_runs):
    rng = np.random.default_rng(0)
    correct = rng.random((num_items, num_runs)) < rng.random((num_items, 1))
    ours = two_level_interval(correct)
    assert (ours.low, ours.high) == pytest.approx(_two_level_by_loops(correct, 6000), abs=0.012)


def test_the_chance_of_runs_is_added_to_that_of_items():
    rng = np.random.default_rng(2)
    correct = rng.random((100, 2)) < 0.5  # all items alike: their shares differ by chance alone
    two, one = two_level_interval(correct), item_bootstrap_interval(correct)
    # Variances per resample: of the item's mean, and of a mean of 2 binomial runs about it.
    per_item = correct.mean(axis=1)
    variance = per_item.var() + (per_item * (1 - per_item)).mean() / 2
    assert two.high - two.low == pytest.approx(2 * 1.96 * np.sqrt(variance / 100), rel=0.06)
    assert two.high - two.low > 1.1 * (one.high - one.low)


def test_items_that_are_always_right_or_always_wrong_have_no_chance_within():
    correct = np.repeat(np.arange(100)[:, None] < 50, 5, axis=1)
    two, one = two_level_interval(correct), item_bootstrap_interval(correct)
    assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=0.011)


def test_a_histogram_of_few_accuracies_has_a_bin_for_each():
    histogram = accuracy_histogram(np.array([20, 21, 21, 23]) / 30, num_items=30)
    np.testing.assert_array_equal(histogram.counts, [1, 2, 0, 1])
    np.testing.assert_allclose(histogram.edges, np.array([19.5, 20.5, 21.5, 22.5, 23.5]) / 30, rtol=0, atol=1e-12)


def test_bins_of_a_histogram_hold_equally_many_accuracies():
    accuracies = np.arange(100, 200) / 1000  # each possible accuracy once
    histogram = accuracy_histogram(accuracies, num_items=1000, max_bins=20)
    np.testing.assert_array_equal(histogram.counts, [5] * 20)
    assert histogram.edges[0] == pytest.approx(0.0995) and histogram.edges[-1] == pytest.approx(0.1995)


def test_a_histogram_counts_every_run_once():
    rng = np.random.default_rng(3)
    accuracies = rng.binomial(30, 0.6, 50) / 30
    histogram = accuracy_histogram(accuracies, num_items=30, max_bins=6)
    assert histogram.counts.sum() == 50 and len(histogram.counts) <= 6
    np.testing.assert_array_equal(histogram.counts, np.histogram(accuracies, histogram.edges)[0])


def test_the_empirical_distribution_climbs_to_one():
    values, shares = empirical_distribution(np.array([0.5, 0.25, 0.5, 1.0]))
    np.testing.assert_array_equal(values, [0.25, 0.5, 1.0])
    np.testing.assert_array_equal(shares, [0.25, 0.75, 1.0])


def test_the_density_agrees_with_scipys():
    values = np.random.default_rng(4).normal(0.6, 0.06, 50)
    grid = np.linspace(0.3, 0.9, 101)
    np.testing.assert_allclose(kernel_density(values, grid), stats.gaussian_kde(values)(grid), rtol=1e-9)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5]])
def test_runs_that_are_all_alike_have_a_density_of_mass_one(values):
    grid = np.linspace(0.4, 0.6, 2001)
    density = kernel_density(np.array(values), grid)
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-6)
    assert density.argmax() == 1000


def test_a_distribution_needs_values():
    with pytest.raises(UserError, match="at least one value"):
        empirical_distribution(np.array([]))
