"""How the accuracy of a run is distributed: Figure 9 of the paper, and an interval that resamples items and runs."""

import dataclasses
import math

import numpy as np

from phi4r.errors import UserError
from phi4r.evals.scores import Interval, run_accuracies

MIN_BANDWIDTH = 0.005  # half a point of accuracy: runs that are all alike have a density too


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts of values; bin i is edges[i] <= value < edges[i+1].

    Attributes:
      edges: [bins+1] float64.
      counts: [bins] int64.
    """

    edges: np.ndarray
    counts: np.ndarray


def two_level_interval(
    correct: np.ndarray, *, confidence: float = 0.95, num_resamples: int = 10000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the accuracy over items, and over the runs within each drawn item.

    Wider than `scores.item_bootstrap_interval` where items are few runs deep: that one takes an item's share of right
    runs for its true one, this one adds the chance in it.

    Args:
      correct: [N R] bool.
      confidence: mass inside the interval.
      num_resamples: bootstrap samples.
      seed: of the resampling.
    """
    run_accuracies(correct)  # refuses what is no table
    correct = np.asarray(correct, bool)
    num_items, num_runs = correct.shape
    shares, counts = np.unique(correct.mean(axis=1), return_counts=True)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(num_items, counts / num_items, size=num_resamples)
    # R verdicts drawn with replacement from an item with share p are binomial; items of one share add up.
    right = rng.binomial(draws * num_runs, shares).sum(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(right / correct.size, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def accuracy_histogram(accuracies: np.ndarray, *, num_items: int, max_bins: int = 25) -> Histogram:
    """Counts run accuracies, in bins that hold the same number of possible accuracies each.

    A run of N items has an accuracy of m / N. Edges at other places would give some bins one possible accuracy more
    than others, and show teeth that are not in the data. So a bin is whole steps of 1 / N wide, with its edges half a
    step off.

    Args:
      accuracies: [R] float.
      num_items: N.
      max_bins: at most so many bins, over the range of the accuracies.
    """
    hits = np.rint(_values(accuracies) * num_items).astype(np.int64)
    first, last = int(hits.min()), int(hits.max())
    width = math.ceil((last - first + 1) / max_bins)
    counts = np.bincount((hits - first) // width)
    edges = (first - 0.5 + width * np.arange(len(counts) + 1)) / num_items
    return Histogram(edges, counts)


def empirical_distribution(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct values in ascending order, and the share of values <= each: both [distinct] float64."""
    distinct, counts = np.unique(_values(values), return_counts=True)
    return distinct, np.cumsum(counts) / counts.sum()


def kernel_density(values: np.ndarray, grid: np.ndarray, *, bandwidth: float | None = None) -> np.ndarray:
    """Returns the Gaussian kernel density of `values` at `grid`, [grid] float64.

    Args:
      values: [R] float.
      grid: [G] float, where the density is wanted.
      bandwidth: sd of the kernel; by default Scott's, R^(-1/5) times the sample sd, and at least half a point.
    """
    values = _values(values)
    if bandwidth is None:
        sd = values.std(ddof=1) if values.size > 1 else 0.0
        bandwidth = max(values.size**-0.2 * sd, MIN_BANDWIDTH)
    distances = (np.asarray(grid, np.float64)[:, None] - values[None]) / bandwidth
    return np.exp(-0.5 * distances**2).mean(axis=1) / (bandwidth * math.sqrt(2.0 * math.pi))


def _values(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
        raise UserError(f"a distribution needs a list of at least one value, not shape {values.shape}.")
    return values
