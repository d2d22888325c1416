import dataclasses

import pytest

from phi4r.evals.voting import Selector, Vote, answer_classes, majority_vote
from phi4r.verifiers.exact import IntegerVerifier
from phi4r.verifiers.math import MathVerifier
from phi4r.verifiers.pool import VerifierPool


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(num_workers=1) as pool:
        yield pool


def test_equivalent_answers_are_of_one_class(pool):
    answers = ["0.5", None, r"\sqrt{8}", r"\frac12", "3", r"2\sqrt{2}", "0.5", "1/2", None]
    assert answer_classes(answers, pool) == [0, None, 2, 0, 4, 2, 0, 0, None]


@pytest.mark.parametrize(
    ("answers", "vote"),
    [
        (["1/2", "3", "0.5", None], Vote("1/2", 0, 2, tied=False)),
        (["4", "3", "3.0", "4", None], Vote("4", 0, 2, tied=True)),
        (["4", "3", "4", "3", "03"], Vote("3", 1, 3, tied=False)),
        ([None, "7"], Vote("7", 1, 1, tied=False)),
        ([None, None], None),
        (["a }", "a }", "b"], Vote("a }", 0, 2, tied=False)),  # text that no box can hold is equal to itself
    ],
)
def test_the_majority_wins_and_of_equals_the_first(pool, answers, vote):
    assert majority_vote(answers, pool) == vote


RESPONSES = [
    r"\boxed{3}",
    "no idea",
    r"<think>\boxed{9}</think>The final answer is $\frac{6}{2}$.",
    r"\boxed{4}",
    r"\boxed{3}",
]


def test_samples_vote_and_the_best_is_the_first_of_the_right_ones(pool):
    selection = Selector(MathVerifier(), pool, thinking=False).select(RESPONSES[1:], "3")
    assert selection.answers == [None, r"\frac{6}{2}", "4", "3"]
    assert selection.vote == Vote(r"\frac{6}{2}", 1, 2, tied=False)
    assert [verdict.correct for verdict in selection.verdicts] == [False, True, False, True]
    assert selection.best == 1


def test_a_model_that_thinks_has_no_answer_before_the_end_of_its_thought(pool):
    selection = Selector(IntegerVerifier(thinking=True), pool, thinking=True).select(RESPONSES[:3], None)
    assert selection.answers == [None, None, r"\frac{6}{2}"]
    assert selection.verdicts is None and selection.best is None
    assert dataclasses.astuple(selection.vote) == (r"\frac{6}{2}", 2, 1, False)
