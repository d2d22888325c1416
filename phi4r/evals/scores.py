"""Statistics of an evaluation: N items answered in R independent runs.

`correct[i, r]` says whether item i was answered rightly in run r. Items are a sample from a benchmark's population
and runs are repetitions on the same items, so an interval for the accuracy resamples items and keeps the runs of an
item together; the spread over runs alone says how repeatable a score is, not how far it is known.

Everything here is a pure function of numpy arrays; `summarise_scores` gathers what a report needs.
"""

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from phi4r.errors import UserError


@dataclasses.dataclass(frozen=True)
class Interval:
    """A confidence interval of an accuracy, as fractions."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Scores:
    """What is reported of an evaluation; shares and accuracies are fractions, lengths are tokens.

    Attributes:
      num_items: N.
      num_runs: R.
      accuracy: mean over items and runs.
      interval: 95% interval of the accuracy: over items (bootstrap), or Wilson's for one run.
      run_accuracies: accuracy of every run.
      sd: sample standard deviation of the run accuracies; None for one run.
      best_run: highest accuracy of a run.
      worst_run: lowest accuracy of a run.
      pass_at_k: chance that one of k = R answers is right, the mean over items.
      all_at_k: chance that all of k = R answers are right.
      majority_at_k: accuracy of the vote of R answers.
      truncated: share of responses that ran into the token limit.
      mean_tokens: mean length of a response.
      mean_tokens_right: mean length of right responses; None if there are none.
      mean_tokens_wrong: mean length of wrong responses; None if there are none.
    """

    num_items: int
    num_runs: int
    accuracy: float
    interval: Interval
    run_accuracies: tuple[float, ...]
    sd: float | None
    best_run: float
    worst_run: float
    pass_at_k: float
    all_at_k: float
    majority_at_k: float
    truncated: float
    mean_tokens: float
    mean_tokens_right: float | None
    mean_tokens_wrong: float | None


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """Model B against model A on the same items.

    Attributes:
      difference: accuracy of B minus accuracy of A.
      interval: 95% bootstrap interval of the difference, over items.
      p_value: two-sided, exact: how often a difference as large arises if A and B are exchangeable on every item.
    """

    difference: float
    interval: Interval
    p_value: float


def summarise_scores(
    correct: np.ndarray, num_tokens: np.ndarray, truncated: np.ndarray, classes: Sequence[Sequence[Hashable | None]]
) -> Scores:
    """Gathers the statistics of one evaluation.

    Args:
      correct: [N R] bool.
      num_tokens: [N R] int, lengths of the responses.
      truncated: [N R] bool, whether a response ran into the token limit.
      classes: N rows of R labels: equal labels are equivalent answers, None is no answer.

    Raises:
      UserError: if there is nothing to summarise.
    """
    correct = _checked(correct)
    num_items, num_runs = correct.shape
    per_run = run_accuracies(correct)
    hits = correct.sum(axis=1)
    one_run = num_runs == 1
    right, wrong = num_tokens[correct], num_tokens[~correct]
    return Scores(
        num_items=num_items,
        num_runs=num_runs,
        accuracy=float(correct.mean()),
        interval=wilson_interval(int(hits.sum()), num_items) if one_run else item_bootstrap_interval(correct),
        run_accuracies=tuple(float(a) for a in per_run),
        sd=None if one_run else float(per_run.std(ddof=1)),
        best_run=float(per_run.max()),
        worst_run=float(per_run.min()),
        pass_at_k=float(np.mean([pass_at_k(num_runs, int(c), num_runs) for c in hits])),
        all_at_k=float(np.mean(hits == num_runs)),
        majority_at_k=float(np.mean([majority_at_k(*row) for row in zip(classes, correct, strict=True)])),
        truncated=float(truncated.mean()),
        mean_tokens=float(num_tokens.mean()),
        mean_tokens_right=float(right.mean()) if right.size else None,
        mean_tokens_wrong=float(wrong.mean()) if wrong.size else None,
    )


def run_accuracies(correct: np.ndarray) -> np.ndarray:
    """Returns the accuracy of each run, [R] float64, for `correct` [N R]."""
    return _checked(correct).mean(axis=0)


def item_bootstrap_interval(
    correct: np.ndarray, *, confidence: float = 0.95, num_resamples: int = 10000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the accuracy over items; an item is drawn with all its runs.

    Args:
      correct: [N R] bool; any per-item values whose mean is the statistic will do.
      confidence: mass inside the interval.
      num_resamples: bootstrap samples.
      seed: of the resampling.
    """
    per_item = _checked(correct).mean(axis=1)
    # How often each item is drawn is multinomial; counting distinct values makes the cost independent of N.
    values, counts = np.unique(per_item, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(per_item.size, counts / per_item.size, size=num_resamples)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(draws @ values / per_item.size, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def wilson_interval(num_correct: int, num_items: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share, for the accuracy of a single run."""
    if not 0 <= num_correct <= num_items or num_items < 1:
        raise UserError(f"an interval needs 0 <= right <= items and items >= 1, not {num_correct} of {num_items}.")
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share = num_correct / num_items
    centre = share + z * z / (2 * num_items)
    half = z * math.sqrt(share * (1.0 - share) / num_items + z * z / (4 * num_items**2))
    scale = 1.0 + z * z / num_items
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """Unbiased chance that at least one of k answers is right: 1 - C(n-c, k) / C(n, k).

    Args:
      num_samples: n, answers of the item.
      num_correct: c, right ones among them.
      k: size of the draw.

    Raises:
      UserError: unless 1 <= k <= n.
    """
    if not 1 <= k <= num_samples:
        raise UserError(f"pass@{k} needs 1 <= k <= samples of an item, which are {num_samples}; make more runs.")
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def majority_at_k(classes: Sequence[Hashable | None], correct: Sequence[bool]) -> float:
    """Chance that the vote of an item's k answers is right.

    The answers vote for their equivalence class, those without an answer (None) do not vote. Among classes with
    equally many votes one is drawn, and the expectation over that draw is returned.

    Args:
      classes: k labels.
      correct: k verdicts; equal for equal labels.
    """
    winners = set(leading_classes(classes))
    if not winners:
        return 0.0
    right = {label for label, is_right in zip(classes, correct, strict=True) if is_right}
    return len(winners & right) / len(winners)


def leading_classes(classes: Sequence[Hashable | None]) -> list[Hashable]:
    """Returns the classes with the most votes, in order of appearance; None does not vote."""
    votes = Counter(label for label in classes if label is not None)
    most = max(votes.values(), default=0)
    return [label for label, count in votes.items() if count == most]


def paired_test(correct_a: np.ndarray, correct_b: np.ndarray) -> PairedTest:
    """Compares two models on the same items by an exact sign-flip test of the differences of the items.

    If both models were equally good on item i, its difference d_i would as likely have the other sign. The p-value
    is the share of the 2^N sign patterns with |sum| at least as large as observed. For one run each this is the
    exact McNemar test.

    Args:
      correct_a: [N R_a] bool, rows in the same order of items as `correct_b`.
      correct_b: [N R_b] bool.

    Raises:
      UserError: if the numbers of items differ.
    """
    correct_a, correct_b = _checked(correct_a), _checked(correct_b)
    if len(correct_a) != len(correct_b):
        raise UserError(
            f"a paired test needs the same items for both models, not {len(correct_a)} and {len(correct_b)}."
        )
    runs_a, runs_b = correct_a.shape[1], correct_b.shape[1]
    # Integer differences in units of 1 / (R_a R_b), so that equal sums are equal.
    differences = correct_b.sum(axis=1) * runs_a - correct_a.sum(axis=1) * runs_b
    scaled = differences / (runs_a * runs_b)
    return PairedTest(
        difference=float(scaled.mean()),
        interval=item_bootstrap_interval(scaled[:, None]),
        p_value=_sign_flip_p_value(differences),
    )


def _sign_flip_p_value(differences: np.ndarray) -> float:
    """P(|sum of s_i d_i| >= |sum of d_i|) for independent fair signs s_i and integer d_i [N].

    The distribution of the sum has the characteristic function prod_i cos(d_i t); on the integers it is inverted
    exactly by a discrete Fourier transform.
    """
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    if not sizes.size:
        return 1.0
    unit = np.gcd.reduce(sizes)
    sizes = sizes // unit
    observed, largest = abs(int(differences.sum())) // unit, int(sizes @ counts)
    support = np.arange(2 * largest + 1)
    angles = 2.0 * np.pi * support / support.size
    characteristic = np.prod(
        [np.cos(size * angles) ** count for size, count in zip(sizes, counts, strict=True)], axis=0
    )
    mass = np.fft.ifft(characteristic).real  # mass[s mod size] = P(sum = s)
    sums = np.where(support > largest, support - support.size, support)
    return float(np.clip(mass[np.abs(sums) >= observed].sum(), 0.0, 1.0))


def _checked(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or not values.size:
        raise UserError(f"scores need a table of items x runs with at least one of each, not shape {values.shape}.")
    return values
