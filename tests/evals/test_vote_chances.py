import itertools

import numpy as np
import pytest
from scipy import stats

from phi4r.errors import UserError
from phi4r.evals.scores import majority_at_k
from phi4r.evals.vote_chances import majority_of_k


@pytest.mark.parametrize(
    "labels, right, expected",
    [
        # Of two answers each: one pair agrees on a, two pairs tie.
        ("aab", "a", [2 / 3, (1 + 1 / 2 + 1 / 2) / 3, 1.0]),
        ("aab", "b", [1 / 3, (0 + 1 / 2 + 1 / 2) / 3, 0.0]),
        ("abc", "c", [1 / 3, 1 / 3, 1 / 3]),
        ("a--", "a", [1 / 3, 2 / 3, 1.0]),  # those without an answer do not vote
        ("ab-", "a", [1 / 3, (1 / 2 + 1 + 0) / 3, 1 / 2]),
        ("aabb", "ab", [1.0] * 4),  # two classes of right answers
    ],
)
def test_chances_worked_by_hand(labels, right, expected):
    classes = [None if label == "-" else label for label in labels]
    correct = np.array([[label in right for label in labels]])
    np.testing.assert_allclose(majority_of_k([classes], correct)[0], expected, rtol=0, atol=1e-12)


def test_chances_are_the_mean_vote_over_all_draws():
    rng = np.random.default_rng(0)
    for _ in range(150):
        num_runs = int(rng.integers(1, 9))
        labels = [None if label == 0 else int(label) for label in rng.integers(0, 5, num_runs)]
        right = set(rng.integers(1, 5, 2).tolist())
        correct = [label in right for label in labels]
        ours = majority_of_k([labels], np.array([correct]))[0]
        for k in range(1, num_runs + 1):
            draws = itertools.combinations(range(num_runs), k)
            votes = [majority_at_k([labels[i] for i in draw], [correct[i] for i in draw]) for draw in draws]
            assert ours[k - 1] == pytest.approx(np.mean(votes), abs=1e-12), (labels, correct, k)


def test_two_classes_of_many_runs_are_hypergeometric():
    num_runs, hits = 200, 90
    correct = np.arange(num_runs)[None] < hits
    ours = majority_of_k([["a"] * hits + ["b"] * (num_runs - hits)], correct)[0]
    for k in (1, 2, 31, 64, 199, 200):
        votes = stats.hypergeom(num_runs, hits, k)
        expected = votes.sf(k // 2) + 0.5 * votes.pmf(k / 2) * (k % 2 == 0)
        assert ours[k - 1] == pytest.approx(expected, rel=1e-9, abs=1e-15), k


def test_a_thousand_runs_stay_finite_and_more_are_refused():
    correct = np.arange(1000)[None] < 3
    ours = majority_of_k([["a"] * 3 + [None] * 997], correct)[0]
    assert ours[0] == pytest.approx(0.003) and ours[-1] == pytest.approx(1.0)
    with pytest.raises(UserError, match="at most 1000"):
        majority_of_k([["a"] * 1001], np.ones((1, 1001), bool))


def test_labels_and_verdicts_must_have_one_shape():
    with pytest.raises(UserError, match="a label for each verdict"):
        majority_of_k([["a", "b"]], np.ones((1, 3), bool))
