import math

import numpy as np
import pytest
from scipy import optimize

from phi4r.errors import UserError
from phi4r.evals.elo import (
    Standings,
    expected_rank,
    icpc_result,
    performance_rating,
    points_result,
    rating_percentile,
    wrong_before_right,
)

R, W = True, False


@pytest.mark.parametrize(
    "attempts, wrong", [([R], 0), ([W, W, R], 2), ([W, R, W, R], 1), ([W, W], None), ([], None), ([R, W], 0)]
)
def test_wrong_attempts_count_up_to_the_first_right_one(attempts, wrong):
    assert wrong_before_right(attempts) == wrong


def test_points_lose_fifty_for_each_wrong_attempt_and_never_fall_below_zero():
    attempts = [[W, W, R], [R, W], [W] * 10, [W, W, W, R]]
    assert points_result([500, 1000, 1500, 100], attempts) == 400 + 1000 + 0 + 0
    assert points_result([], []) == 0


def test_icpc_counts_problems_and_then_minutes_of_solved_ones():
    assert icpc_result([[W, W, R], [R], [W] * 10], minutes_per_wrong=10) == (2, 20.0)
    assert icpc_result([[W], [W]], minutes_per_wrong=10) == (0, 0.0)


def test_the_rank_is_one_more_than_the_number_of_better_results():
    points = Standings(np.full(4, 1500.0), np.array([900.0, 700, 700, 100]), np.zeros(4))
    assert [points.rank(score) for score in (1000, 900, 800, 700, 50)] == [1, 1, 2, 2, 5]
    icpc = Standings(np.full(3, 1500.0), np.array([2.0, 2, 1]), np.array([20.0, 90, 5]))
    assert [icpc.rank(*result) for result in ((2, 10), (2, 20), (2, 30), (2, 90), (1, 0), (0, 0))] == [1, 1, 2, 2, 3, 4]
    with pytest.raises(UserError, match="at least one participant"):
        Standings(np.array([]), np.array([]), np.array([]))


@pytest.mark.parametrize(
    "rank, ratings, expected",
    [
        (2, [1100, 1900], 1500.0),  # by symmetry
        (2, [1000, 1000, 1000], 1100.0),  # 1000 + 400 log10(2) = 1120.4 would be above the cap
        (3, [1000, 1000, 1000], 1000 - 400 * math.log10(2)),  # three chances of 2/3
        (11, [1200] * 11, 1200 - 400.0),  # eleven chances of 10/11
        (1, [1500, 2400], 2500.0),  # the first place is capped
        (3, [1500, 2400], 0.0),  # and so is the last
    ],
)
def test_ratings_worked_by_hand(rank, ratings, expected):
    assert performance_rating(rank, np.array(ratings)) == pytest.approx(expected, abs=1e-6)


def test_ratings_agree_with_scipys_root():
    rng = np.random.default_rng(0)
    ratings = rng.normal(1500, 300, 2000)
    for rank in (2, 17, 400, 1999):
        root = optimize.brentq(lambda rating, rank=rank: expected_rank(rating, ratings) - rank, -2000, 5000)
        expected = min(max(root, 0.0), ratings.max() + 100)
        assert performance_rating(rank, ratings) == pytest.approx(expected, abs=1e-6)


def test_a_percentile_counts_those_below_and_half_of_equals():
    ratings = np.array([1000, 1200, 1400, 1600])
    assert [rating_percentile(rating, ratings) for rating in (900, 1300, 1400, 1700)] == [0.0, 50.0, 62.5, 100.0]
    with pytest.raises(UserError, match="at least one rating"):
        rating_percentile(1500, np.array([]))
