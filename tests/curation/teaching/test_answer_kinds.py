import json

import pytest

from phi4r.curation.teaching.answer_kinds import (
    agreeing,
    answers_of,
    check_kind,
    choice_letter,
    uncheckable,
    verifier_of,
    vote,
)
from phi4r.errors import UserError
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.tours import TourVerifier

REFERENCE = json.dumps({"letter": "B", "options": ["red", "blue"]})


@pytest.fixture(scope="module")
def pool():
    with VerifierPool(num_workers=1) as pool:
        yield pool


def test_equivalent_answers_vote_for_one_candidate(pool):
    # 1/2, 0.5 and \frac{2}{4} are three votes; as strings, 3 with its two would win.
    winner = vote("math", ["3", "0.5", "3", "1/2", r"\frac{2}{4}", None], pool)
    assert (winner.answer, winner.votes, winner.tied) == ("0.5", 3, False)


def test_letters_vote_whatever_stands_around_them(pool):
    texts = [r"\boxed{B}", "The answer is (b).", "So option A", "I cannot say", "Answer: blue"]
    letters = answers_of("choice", texts, thinking=False, reference=REFERENCE)
    assert letters == ["B", "B", "A", None, "B"]
    assert vote("choice", letters, pool).votes == 3
    assert answers_of("choice", ["Answer: blue"], thinking=False) == [None], "the options are not known"
    assert vote("choice", [None, None], pool) is None
    assert vote("choice", ["C", "A", "A", "C"], pool).tied


def test_agreement_is_equivalence_and_no_answer_agrees_with_none(pool):
    assert agreeing("math", ["0.5", None, "2", r"\frac12"], "1/2", pool) == [True, False, False, True]
    assert agreeing("choice", ["B", None, "A"], "B", pool) == [True, False, False]


def test_an_answer_within_an_unfinished_thought_is_none():
    assert answers_of("math", [r"<think>\boxed{3}", r"<think>x</think>\boxed{4}"], thinking=True) == [None, "4"]


@pytest.mark.parametrize(
    ("reference", "letter"), [("b", "B"), (REFERENCE, "B"), ("12", ""), ('{"a": 1}', ""), ("", "")]
)
def test_the_letter_of_a_reference_is_found(reference, letter):
    assert choice_letter(reference) == letter


@pytest.mark.parametrize(
    "answer", ["12", r"\frac{1}{2}", "$x = 5$", "(1, 2]", r"\{1, 3\}", "2n+1", "12 square meters", "yes"]
)
def test_a_short_value_can_be_checked(answer):
    assert uncheckable("math", answer, max_length=64) == ""


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("  ", "no answer"),
        ("1" * 65, "answer too long"),
        ("1\n2", "answer too long"),
        ("the triangle is isosceles", "answer cannot be parsed"),
        (r"\text{see the proof}", "answer cannot be parsed"),
        (r"\frac{1", "answer cannot be parsed"),
        (r"9^{9^{9^{9}}}", "answer cannot be parsed"),
    ],
)
def test_what_is_no_short_value_cannot(answer, why):
    assert uncheckable("math", answer, max_length=64) == why


def test_a_choice_is_checkable_by_its_letter():
    assert uncheckable("choice", REFERENCE, max_length=3) == "" and uncheckable("choice", "12", max_length=3)


def test_kinds_name_their_verifiers():
    assert verifier_of("phi4r.verifiers.tours:TourVerifier", thinking=True) == TourVerifier(thinking=True)
    check_kind("phi4r.verifiers.tours:TourVerifier", where="traces.answers", voting=False)
    for kind in ("maths", "phi4r.verifiers.tours:Tour", "nowhere:X"):
        with pytest.raises(UserError, match=f"traces.answers='{kind}'"):
            check_kind(kind, where="traces.answers", voting=False)
    with pytest.raises(UserError, match="give 'math', 'choice'"):
        check_kind("phi4r.verifiers.tours:TourVerifier", where="teachability.answers", voting=True)
