"""Curves over k: how a score grows with the number of samples of an item (Figures 2, 12 and 17 of the paper).

An item has R answers; a curve gives, for k = 1 .. R, the expectation over all draws of k of them without replacement,
so no point of it depends on chance or on the order of the runs. Its band says how far the mean over items is known:
it resamples items and keeps the answers of an item together.
"""

import dataclasses
import functools
import math
from collections.abc import Hashable, Sequence

import numpy as np

from phi4r.evals.scores import run_accuracies
from phi4r.evals.vote_chances import majority_of_k

NUM_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Curve:
    """A statistic of k answers of an item, the mean over items; entry k - 1 of each array belongs to k.

    Attributes:
      mean: [R] float64.
      low: [R] float64, lower end of the interval.
      high: [R] float64, upper end of the interval.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def best_of_k_curve(values: np.ndarray, *, seed: int = 0) -> Curve:
    """Returns the best of k answers; of verdicts this is the unbiased pass@k, `scores.pass_at_k` for all k.

    Args:
      values: [N R], verdicts or scores.
      seed: of the bootstrap behind the 95% band.
    """
    return mean_curve(best_of_k(values), seed=seed)


def worst_of_k_curve(values: np.ndarray, *, seed: int = 0) -> Curve:
    """Returns the worst of k answers; of verdicts this is the chance that all k are right."""
    return mean_curve(worst_of_k(values), seed=seed)


def majority_of_k_curve(classes: Sequence[Sequence[Hashable | None]], correct: np.ndarray, *, seed: int = 0) -> Curve:
    """Returns the accuracy of the vote of k answers (Figure 2), `scores.majority_at_k` averaged over all draws.

    Args:
      classes: N rows of R labels: equal labels are equivalent answers, None is no answer and does not vote.
      correct: [N R] bool; equal for equal labels of a row.
      seed: of the bootstrap behind the 95% band.
    """
    return mean_curve(majority_of_k(classes, correct), seed=seed)


def best_run_of_k(correct: np.ndarray) -> np.ndarray:
    """Returns the expected accuracy of the best of k runs, [R] float64: what choosing one's best run reports."""
    return best_of_k(run_accuracies(correct)[None])[0]


def worst_run_of_k(correct: np.ndarray) -> np.ndarray:
    """Returns the expected accuracy of the worst of k runs, [R] float64."""
    return worst_of_k(run_accuracies(correct)[None])[0]


def best_of_k(values: np.ndarray) -> np.ndarray:
    """Returns the expected maximum of k of the R values of each row, k = 1 .. R: [N R] -> [N R] float64.

    Of R values in ascending order, the i-th (from 0) is the largest of a draw in C(i, k-1) of C(R, k) draws.
    """
    values = np.asarray(values, np.float64)
    return np.sort(values, axis=1) @ _largest_of_draw(values.shape[1])


def worst_of_k(values: np.ndarray) -> np.ndarray:
    """Returns the expected minimum of k of the R values of each row, k = 1 .. R: [N R] -> [N R] float64."""
    return -best_of_k(-np.asarray(values, np.float64))


def mean_curve(
    per_item: np.ndarray, *, confidence: float = 0.95, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Curve:
    """Averages the curves of items, with a percentile bootstrap over items.

    Args:
      per_item: [N R], a curve for each item.
      confidence: mass inside the interval of every point.
      num_resamples: bootstrap samples.
      seed: of the resampling.
    """
    rows, counts = np.unique(np.asarray(per_item, np.float64), axis=0, return_counts=True)
    num_items = counts.sum()
    draws = np.random.default_rng(seed).multinomial(num_items, counts / num_items, size=num_resamples)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(draws @ rows / num_items, [tail, 1.0 - tail], axis=0)
    return Curve(counts @ rows / num_items, low, high)


@functools.lru_cache
def _largest_of_draw(num: int) -> np.ndarray:
    """Returns [i, k-1]: the chance that the i-th smallest of `num` values is the largest of k, [num num] float64."""
    return np.array(
        [[math.comb(i, k - 1) / math.comb(num, k) for k in range(1, num + 1)] for i in range(num)], np.float64
    )
