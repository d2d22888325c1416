import numpy as np
import pytest

from phi4r.evals.reporting.collected import Evaluation
from phi4r.evals.reporting.derived import all_groups, can_vote, compare, group_sizes, of_k
from phi4r.evals.responses import ResponseTable


def evaluation(correct, *, answers=None, ids=None, groups=None) -> Evaluation:
    correct = np.array(correct, bool)
    answers = np.full(correct.shape, "w") if answers is None else np.array(answers, object)
    labels = [
        tuple((True, None) if right else answer and (False, answer) for right, answer in zip(*row, strict=True))
        for row in zip(correct, answers, strict=True)
    ]
    table = ResponseTable(
        ids=tuple(ids or (f"i{number}" for number in range(len(correct)))),
        correct=correct,
        num_tokens=np.where(correct, 100, 300),
        truncated=np.zeros_like(correct),
        classes=tuple(labels),
    )
    return Evaluation("t", {}, table, groups or {}, {"ok": correct.size}, {}, {}, {})


def test_best_worst_and_majority_are_expectations_over_draws():
    # Of three samples of item 0 two are right: of two drawn one is right for certain, both with chance 1/3, and the
    # vote of one right and one wrong is a tie. Item 1 is never right.
    result = of_k(evaluation([[1, 1, 0], [0, 0, 0]]), 2)
    assert (result.best, result.worst, result.majority) == pytest.approx((1 / 2, 1 / 6, (1 / 3 + 2 / 3 / 2) / 2))
    assert of_k(evaluation([[1, 1, 0]]), 4) is None


def test_answers_that_nobody_extracted_cannot_vote():
    programs = evaluation([[1, 0, 0]], answers=[[None, None, None]])
    assert not can_vote(programs) and of_k(programs, 3).majority is None
    assert can_vote(evaluation([[1, 1]], answers=[[None, None]]))  # whatever they are, all are right


def test_groups_have_the_scores_of_their_items():
    groups = {"year": ((2024,), (2023,), (2024,)), "subject": (("b", "a"), ("a",), ()), "all": (("x",),) * 3}
    e = evaluation([[1, 1], [1, 0], [0, 0]], groups=groups)
    found = all_groups({"m": e})
    assert list(found) == ["year", "subject"], "a key with one value tells nothing"
    assert {year: (g.num_items, g.accuracy, g.mean_tokens) for year, g in found["year"]["m"].items()} == {
        2023: (1, 0.5, 200),
        2024: (2, 0.5, 200),
    }
    assert {name: (g.num_items, g.accuracy) for name, g in found["subject"]["m"].items()} == {
        "a": (2, 0.75),
        "b": (1, 1),
    }
    assert group_sizes(found["year"]) == {2023: 1, 2024: 2}


def test_a_key_with_a_value_for_every_item_is_no_group():
    e = evaluation([[1]] * 61, groups={"id": tuple((number,) for number in range(61))})
    assert all_groups({"m": e}) == {}


def test_models_are_compared_on_the_items_that_both_were_asked():
    a = evaluation([[0], [0], [1], [1]], ids="wxyz")
    b = evaluation([[1], [1], [1], [0]], ids="yxwv")  # x: 0 -> 1, w: 0 -> 1, y: 1 -> 1
    comparison = compare(a, b)
    assert comparison.num_items == 3 and comparison.test.difference == pytest.approx(2 / 3)
    assert comparison.test.p_value == pytest.approx(0.5)  # two flips of two signs: 2 of 4 patterns are as far out
    assert compare(a, evaluation([[1]], ids="q")) is None


def test_numbers_of_runs_that_do_not_divide_are_cut_to_the_smaller():
    a, b = evaluation([[1, 1, 0]] * 2), evaluation([[1, 0]] * 2)
    comparison = compare(a, b)
    assert comparison.num_runs == (2, 2) and comparison.test.difference == -0.5
    assert compare(a, evaluation([[1]] * 2)).num_runs == (3, 1)
