import pytest

from phi4r.verifiers import IntegerVerifier, integer_answer


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("204", 204),
        ("033", 33),
        ("000", 0),
        ("204.0", 204),
        ("$204$", 204),
        (r"\,204\,", 204),
        (r"204\!", 204),
        (r"204^\circ", 204),
        (r"204 \text{ cm}", 204),
        ("204 degrees", 204),
        ("m+n = 204", 204),
        ("204.", 204),
        ("204.5", None),
        ("1000", None),
        ("1, 2", None),
        ("2,04", None),
        ("20 4", None),
        ("n", None),
        ("", None),
        ("9" * 500, None),
    ],
)
def test_aime_integers_are_read_as_the_competition_means_them(answer, value):
    assert integer_answer(answer) == value


def test_grouping_commas_are_dropped_where_more_digits_are_allowed():
    assert integer_answer("10, 080", max_digits=5) is None
    for answer in ("10,080", "10{,}080", r"10,\!080", r"10\,080"):
        assert integer_answer(answer, max_digits=5) == 10080


def test_the_integer_verifier_tells_right_wrong_missing_and_unjudgeable_apart():
    verifier = IntegerVerifier(thinking=True, max_digits=3)
    right = verifier(r"<think>hm</think>\boxed{033}", "33")
    assert (right.correct, right.score, right.answer, right.status) == (True, 1.0, "033", "ok")
    wrong = verifier(r"<think>hm</think>\boxed{34}", "33")
    assert (wrong.correct, wrong.score, wrong.status) == (False, 0.0, "ok")
    assert verifier(r"<think>\boxed{33}", "33").status == "no_answer"
    assert verifier(r"</think>\boxed{33}", "thirty-three").status == "error"
    assert verifier(r"</think>\boxed{x}", "33").status == "ok"
