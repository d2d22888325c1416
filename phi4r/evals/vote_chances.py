"""The chance that the vote of k answers is right, over all draws of k of an item's R answers, exactly.

Only the sizes of the classes of equal answers matter. Let a class A of size a hold right answers, and let it get j of
the k votes. It wins if no class has more; among t rivals with j votes as well, it wins one draw in 1 + t. A rival of
size s contributes the polynomial

    sum_{i<j} C(s, i) x^i  +  y C(s, j) x^j

whose x counts draws and whose y counts ties, and the product over all rivals times C(a, j) x^j counts the draws. As
1 / (1 + t) is the integral of y^t over [0, 1], Gauss-Legendre quadrature in y gives the expectation over ties without
error. All terms are positive, so nothing cancels.
"""

import functools
import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from phi4r.errors import UserError

MAX_RUNS = 1000  # the count of draws of 500 out of 1000 is near the largest double


def majority_of_k(classes: Sequence[Sequence[Hashable | None]], correct: np.ndarray) -> np.ndarray:
    """Returns the chance that the vote of k answers is right, for k = 1 .. R: [N R] float64.

    Args:
      classes: N rows of R labels: equal labels are equivalent answers, None is no answer and does not vote.
      correct: [N R] bool; equal for equal labels of a row.

    Raises:
      UserError: if the shapes differ, or R is above 1000.
    """
    correct = np.asarray(correct, bool)
    num_items, num_runs = correct.shape
    if len(classes) != num_items or any(len(row) != num_runs for row in classes):
        raise UserError(f"a vote needs a label for each verdict; the verdicts are {num_items} items x {num_runs} runs.")
    if num_runs > MAX_RUNS:
        raise UserError(f"a vote takes at most {MAX_RUNS} runs, not {num_runs}.")
    return np.array([_item_chances(*row) for row in zip(classes, correct, strict=True)])


def _item_chances(labels: Sequence[Hashable | None], correct: np.ndarray) -> np.ndarray:
    """Returns the chances of one item, [R]: the sum over its classes of right answers."""
    sizes = Counter(label for label in labels if label is not None)
    right = {label for label, is_right in zip(labels, correct, strict=True) if is_right and label is not None}
    chances = np.zeros(len(labels))
    for label in right:
        rivals = sorted(size for other, size in sizes.items() if other != label)
        chances += _class_chances(sizes[label], tuple(rivals), len(labels))
    return chances


@functools.lru_cache(4096)
def _class_chances(size: int, rivals: tuple[int, ...], num: int) -> np.ndarray:
    """Returns the chance that a class wins the vote of k of `num` answers, k = 1 .. num: [num].

    Args:
      size: answers in the class.
      rivals: sizes of the other classes; answers in no class do not vote.
      num: answers of the item.
    """
    ways = np.zeros(num + 1)
    for votes in range(1, size + 1):
        strong = [rival for rival in rivals if rival >= votes]
        ties, weights = _unit_quadrature(len(strong) // 2 + 1)
        # Rivals too small to tie may get any number of votes, and so may those who do not vote.
        free = num - size - sum(strong)
        product = np.tile(_binomials(free, num), (len(ties), 1))
        for rival in strong:
            product = _times_rival(product, rival, votes, ties)
        ways[votes:] += math.comb(size, votes) * (weights @ product)[: num + 1 - votes]
    chances = ways[1:] / _binomials(num, num)[1:]
    chances.setflags(write=False)
    return chances


def _times_rival(product: np.ndarray, rival: int, votes: int, ties: np.ndarray) -> np.ndarray:
    """Multiplies polynomials in x, [Q num+1] at Q values of y, by that of a rival with up to `votes` votes."""
    result = product.copy()
    for i in range(1, votes):
        result[:, i:] += math.comb(rival, i) * product[:, :-i]
    result[:, votes:] += math.comb(rival, votes) * ties[:, None] * product[:, :-votes]
    return result


@functools.lru_cache
def _binomials(num: int, last: int) -> np.ndarray:
    """Returns C(num, i) for i = 0 .. last, [last+1] float64."""
    return np.array([math.comb(num, i) for i in range(last + 1)], np.float64)


@functools.lru_cache
def _unit_quadrature(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns nodes and weights on [0, 1], exact for polynomials of degree 2 num - 1."""
    nodes, weights = np.polynomial.legendre.leggauss(num)
    return (nodes + 1.0) / 2.0, weights / 2.0
