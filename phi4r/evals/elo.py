"""Elo ratings from contests: which rating a model would need for the ranks that it reached.

In a contest with participants of ratings r_i, a participant of rating R expects the rank

    1 + sum_i 1 / (1 + 10^((R - r_i) / 400))

so the rating that explains an observed rank is the root R of this equation, here within [0, max r_i + 100]: the first
place, which only an infinite rating expects, is given 100 points more than the best participant. A model's rating is
the mean over contests. It answers at once and at the same time in all of them, so results do not depend on the minute
of a submission, as those of participants do.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from phi4r.errors import UserError

POINTS_PER_WRONG = 50.0
HEADROOM = 100.0  # rating points above the best participant
_BISECTIONS = 60


@dataclasses.dataclass(frozen=True)
class Standings:
    """How rated participants did in a contest.

    Attributes:
      ratings: [P] float64, before the contest.
      scores: [P] float64, points, or problems solved under ICPC rules.
      penalties: [P] float64, decides between equal scores, the lower one wins; zeros where points decide alone.
    """

    ratings: np.ndarray
    scores: np.ndarray
    penalties: np.ndarray

    def __post_init__(self):
        if not len(self.ratings) == len(self.scores) == len(self.penalties) > 0:
            raise UserError("standings need a rating, a score and a penalty for each of at least one participant.")

    def rank(self, score: float, penalty: float = 0.0) -> int:
        """Returns the rank of a result: one more than the number of participants with a better one."""
        better = (self.scores > score) | ((self.scores == score) & (self.penalties < penalty))
        return 1 + int(better.sum())


def wrong_before_right(attempts: Sequence[bool]) -> int | None:
    """Returns how many attempts failed before the first right one; None if none is right."""
    return list(attempts).index(True) if True in attempts else None


def points_result(points: Sequence[float], attempts: Sequence[Sequence[bool]]) -> float:
    """Returns the score of a contest with points: max(0, points - 50 x wrong) for each problem that was solved.

    Args:
      points: what each problem is worth.
      attempts: verdicts on each problem, in the order of submission.
    """
    wrong = [wrong_before_right(verdicts) for verdicts in attempts]
    return sum(
        max(0.0, worth - POINTS_PER_WRONG * count)
        for worth, count in zip(points, wrong, strict=True)
        if count is not None
    )


def icpc_result(attempts: Sequence[Sequence[bool]], *, minutes_per_wrong: float) -> tuple[int, float]:
    """Returns (problems solved, penalty) of a contest under ICPC rules; wrong attempts at unsolved ones are free.

    Args:
      attempts: verdicts on each problem, in the order of submission.
      minutes_per_wrong: penalty for a wrong attempt before the right one.
    """
    solved = [count for count in map(wrong_before_right, attempts) if count is not None]
    return len(solved), minutes_per_wrong * sum(solved)


def expected_rank(rating: float, ratings: np.ndarray) -> float:
    """Returns the rank that a participant of `rating` expects among others of `ratings` [P]."""
    return 1.0 + float(np.sum(1.0 / (1.0 + 10.0 ** ((rating - np.asarray(ratings)) / 400.0))))


def performance_rating(rank: float, ratings: np.ndarray) -> float:
    """Returns the rating in [0, max + 100] that expects `rank` among participants of `ratings` [P], by bisection."""
    low, high = 0.0, float(np.max(ratings)) + HEADROOM
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if expected_rank(middle, ratings) > rank else (low, middle)
    return (low + high) / 2.0


def rating_percentile(rating: float, ratings: np.ndarray) -> float:
    """Returns the percentage of `ratings` [P] that are below `rating`, equal ones counted half."""
    ratings = np.asarray(ratings, np.float64)
    if not ratings.size:
        raise UserError("a percentile needs a list of at least one rating.")
    return 100.0 * float(np.mean((ratings < rating) + 0.5 * (ratings == rating)))
