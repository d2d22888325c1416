import json

import pytest

from phi4r.verifiers.tours import TourVerifier, is_tour, read_tour, tour_length
from phi4r.verifiers.verdict import TwoSpeedVerifier

# The square 0-1-2-3 with sides 1, 2, 3, 4 and diagonals 9: tours of length 10 (round), 22 and 24 (crossing).
WEIGHTS = [[0, 1, 9, 4], [1, 0, 2, 9], [9, 2, 0, 3], [4, 9, 3, 0]]
VALUES = {"weights": WEIGHTS, "optimum": 10, "tours": [[0, 1, 2, 3, 0]]}
REFERENCE = json.dumps(VALUES)


def said(path: str, distance: str = "'10'") -> str:
    return f"<final_answer>{{'Path': {path}, 'TotalDistance': {distance}}}</final_answer>"


RIGHT = [
    said("'0->1->2->3->0'"),
    said("'0->3->2->1->0'"),  # reversed
    said("'2->3->0->1->2'"),  # from elsewhere
    said("'1->0->3->2->1'"),
    said("'0->1->2->3->0'", "'99'"),  # the stated distance is ignored
    said("'0->1->2->3->0'", "None"),
    "<final_answer>{'Path': '0->1->2->3->0'}</final_answer>",
    said("' 0 -> 1->2 -> 3 ->0 '"),
    said("'0→1→2→3→0'"),
    said("[0, 1, 2, 3, 0]"),
    r"\boxed{abcda}",
    r"\boxed{cbadc}",
    r"\boxed{0->1->2->3->0}",
    said("'0->2->1->3->0'") + said("'0->1->2->3->0'"),
]


@pytest.mark.parametrize("response", RIGHT)
def test_every_closed_tour_of_optimal_length_is_right(response):
    verdict = TourVerifier()(response, REFERENCE)
    assert (verdict.correct, verdict.score, verdict.status) == (True, 1.0, "ok")
    assert verdict.parts == {"ratio": 1.0, "valid": 1.0}


@pytest.mark.parametrize(
    ("response", "ratio"),
    [(said("'0->2->1->3->0'"), 10 / 24), (said("'0->1->3->2->0'"), 10 / 22), (r"\boxed{abdca}", 10 / 22)],
)
def test_a_longer_tour_is_wrong_and_its_ratio_is_told(response, ratio):
    verdict = TourVerifier()(response, REFERENCE)
    assert (verdict.correct, verdict.score, verdict.status) == (False, 0.0, "ok")
    assert verdict.parts == {"ratio": pytest.approx(ratio), "valid": 1.0}


@pytest.mark.parametrize(
    "response",
    [
        said("'0->1->2->3'"),  # not closed
        said("'0->1->2->0'"),  # a city is missing
        said("'0->1->2->3->1->0'"),  # one is visited twice
        said("'0->1->1->3->0'"),
        said("'0->1->2->4->0'"),  # there is no such city
        said("'0->1->2->-1->0'"),
        said("'0->1->2->3->0->'"),
        said("'0->1->2->3.0->0'"),
        said("'0->1->2->٣->0'"),
        said("'0->1->2->" + "3" * 60 + "->0'"),
        said("'0-1-2-3-0'"),
        said("''"),
        said("'0'"),
        said("{}"),
        said("None"),
        "<final_answer>0->1->2->3->0</final_answer>",
        r"\boxed{abcd}",
        r"\boxed{aBcda}",
        r"\boxed{}",
        r"\boxed{a}",
        r"\boxed{10}",
    ],
)
def test_what_is_no_hamiltonian_cycle_is_wrong(response):
    verdict = TourVerifier()(response, REFERENCE)
    assert (verdict.correct, verdict.score, verdict.status) == (False, 0.0, "ok")
    assert verdict.parts == {"ratio": 0.0, "valid": 0.0}


def test_compat_accepts_listed_tours_only():
    accepted = [TourVerifier(compat=True)(response, REFERENCE).correct for response in RIGHT[:3]]
    assert accepted == [True, False, False]
    both = json.dumps({**VALUES, "tours": [[0, 1, 2, 3, 0], [0, 3, 2, 1, 0]]})
    assert [TourVerifier(compat=True)(response, both).correct for response in RIGHT[:3]] == [True, True, False]


def test_a_response_without_an_answer_is_told_apart_from_a_wrong_one():
    assert TourVerifier()("Go 0->1->2->3->0.", REFERENCE).status == "no_answer"
    cut_off = "<think>" + RIGHT[0]
    assert TourVerifier(thinking=True)(cut_off, REFERENCE).status == "no_answer"
    assert TourVerifier(thinking=True)(cut_off + "</think>" + RIGHT[0], REFERENCE).correct


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "10",
        "[]",
        "[" * 100_000,
        json.dumps({**VALUES, "optimum": "10"}),
        json.dumps({**VALUES, "optimum": 0}),
        json.dumps({**VALUES, "optimum": 11}),  # the answer is shorter
        json.dumps({**VALUES, "tours": None}),
        json.dumps({"weights": WEIGHTS, "optimum": 10}),
        json.dumps({**VALUES, "weights": []}),
        json.dumps({**VALUES, "weights": WEIGHTS[:3]}),
        json.dumps({**VALUES, "weights": [[0, 1], [2, 0]]}),
        json.dumps({**VALUES, "weights": [[0, 0], [0, 0]]}),
        json.dumps({**VALUES, "weights": [[0, 1.5], [1.5, 0]]}),
        json.dumps({**VALUES, "weights": [[0, True], [True, 0]]}),
        json.dumps({**VALUES, "weights": "abcd"}),
    ],
)
def test_a_malformed_reference_is_an_error_of_the_judge(reference):
    assert TourVerifier()(RIGHT[0], reference).status == "error"


def test_tours_and_lengths_by_hand():
    assert read_tour("0->2->1->0") == read_tour("acba") == read_tour("0, 2, 1, 0") == [0, 2, 1, 0]
    assert is_tour([2, 0, 1, 2], 3) and not is_tour([0, 1, 2, 1], 3)
    assert tour_length(WEIGHTS, [0, 2, 1, 3, 0]) == 9 + 2 + 9 + 4


def test_every_verdict_is_cheap():
    assert isinstance(TourVerifier(), TwoSpeedVerifier)
    assert TourVerifier().quick(RIGHT[0], REFERENCE) == TourVerifier()(RIGHT[0], REFERENCE)
