"""How well graders agree: on one item, and over many by Krippendorff's alpha."""

import itertools
from collections.abc import Sequence


def mean_difference(values: Sequence[float]) -> float:
    """Returns the mean absolute difference of two values, over all pairs; 0 for fewer than two values."""
    pairs = list(itertools.combinations(values, 2))
    return sum(abs(a - b) for a, b in pairs) / len(pairs) if pairs else 0.0


def exact_share(values: Sequence[float]) -> float:
    """Returns the share of pairs of equal values; 1 for fewer than two values."""
    pairs = list(itertools.combinations(values, 2))
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else 1.0


def krippendorff_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Returns Krippendorff's alpha for values on an interval scale.

        alpha = 1 - D_o / D_e,   D_o = 1/n sum_u 1/(m_u - 1) sum_{i != j in u} (v_i - v_j)^2,
                                 D_e = 1/(n (n - 1)) sum_{i != j} (v_i - v_j)^2

    over the n values of units (items) that have m_u >= 2 of them. 1 is perfect agreement, 0 that of chance.

    Args:
      units: the values that graders gave each item; their order does not matter, and some may be missing.

    Returns:
      alpha, or None where no item has two values, or all values are equal.
    """
    paired = [unit for unit in units if len(unit) > 1]
    values = [value for unit in paired for value in unit]
    expected = _squared_differences(values) / (len(values) - 1) if values else 0.0
    if expected == 0.0:
        return None
    return 1.0 - sum(_squared_differences(unit) / (len(unit) - 1) for unit in paired) / expected


def _squared_differences(values: Sequence[float]) -> float:
    """Returns the sum of (v_i - v_j)^2 over all ordered pairs: 2 m sum (v - mean)^2."""
    mean = sum(values) / len(values)
    return 2.0 * len(values) * sum((value - mean) ** 2 for value in values)
