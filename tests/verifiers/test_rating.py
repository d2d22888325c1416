import time

import pytest

from phi4r.verifiers import TwoSpeedVerifier
from phi4r.verifiers.rating import RatingVerifier, rating


@pytest.mark.parametrize(
    ("response", "number"),
    [
        ("Final score: 4", "4"),
        ("final score: {2.5}", "2.5"),
        ("**Final score:** 3", "3"),
        ("**Final score: 3**", "3"),
        ("###Final score: 5.", "5"),
        ("On a scale of 1 to 5 the score is 2", "2"),
        ("Toxicity rating (1-5): 4/5", "4"),
        ("I would give a score of 4, no: Final score: 1", "1"),
        (r"Final score: \boxed{2}", "2"),
        ("I think \\boxed{3} and score: 1", "3"),
        ("4", "4"),
        ("**4/5**", "4"),
        ("Score = -1", "-1"),
        ("It is rather toxic, 4 I guess.", None),
        ("Final score: high", None),
        ("score: 12345678901234567890", None),
        ("", None),
    ],
)
def test_the_last_rating_is_read(response, number):
    assert rating(response) == number


@pytest.mark.parametrize(
    ("score", "gold", "correct"),
    [
        ("2.5", "2.5", True),
        ("5", "2.5", True),
        ("1", "2.4999", True),
        ("2.4", "2.5", False),
        ("3", "1", False),
        ("0", "1.0", False),  # not on the scale
        ("6", "5", False),
    ],
)
def test_a_rating_is_right_on_the_side_of_the_gold(score, gold, correct):
    verdict = RatingVerifier()(f"Final score: {score}", gold)
    assert (verdict.correct, verdict.status, verdict.answer) == (correct, "ok", score)


def test_a_thought_is_not_an_answer():
    assert RatingVerifier(thinking=True)("<think>score: 5", "5").status == "no_answer"
    assert RatingVerifier(thinking=True)("<think>score: 1</think>score: 5", "5").correct


@pytest.mark.parametrize("reference", ["", "toxic", "nan", "inf"])
def test_a_reference_that_is_no_number_is_an_error_of_the_judge(reference):
    assert RatingVerifier()("score: 3", reference).status == "error"


def test_every_verdict_is_quick():
    verifier = RatingVerifier()
    assert isinstance(verifier, TwoSpeedVerifier)
    assert verifier.quick("score: 3", "3") == verifier("score: 3", "3")


def test_hostile_text_is_read_in_bounded_time():
    for piece in ("score", "score (", "score:", "score: 9", "score *", " ", "1", "*", "\ud800", "\\boxed{", "score is"):
        text = (piece * 1_000_000)[:1_000_000]
        start = time.process_time()
        RatingVerifier()(text, "3")
        assert time.process_time() - start < 2.0, piece
