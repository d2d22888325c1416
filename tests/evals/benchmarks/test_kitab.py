import json

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.kitab import KITAB_ONE, KITAB_TWO
from phi4r.evals.responses import Response

ROW = {
    "Author": "Jane Example",
    "Birth Year": 1901,
    "constraints": "The book title starts with the letter V.",
    "constraint_type": "starts-with",
    "all_books": "['Vale (1930)', \"Emma's Vale (1931)\", 'Vine (1940)', 'Oak (1950)']",
    "mapped_books": "['Vale', 'Vine']",
    "raw_books": "['Vale', 'Vine', 'Der Wald']",
}


def test_a_row_becomes_a_problem():
    problem = KITAB_ONE.read(ROW, "f:1")
    assert "Jane Example (born in 1901)" in problem.prompt and ROW["constraints"] in problem.prompt
    assert problem.meta == {"author": "Jane Example", "constraint_type": "starts-with", "constrainedness": 0.5}
    verifier = KITAB_ONE.make_verifier(False)
    assert verifier("Output:\n1. Title: Vale\n2. Title: Vine\n3. Title: Der Wald", problem.answer).correct
    assert verifier("Output:\n1. Title: Oak", problem.answer).parts["unsatisfied"] == 1.0
    assert verifier("Output:\n1. Title: Dune", problem.answer).parts["not_from_author"] == 1.0


def test_lists_may_be_lists():
    lists = {name: json.loads('["Vale"]') for name in ("all_books", "mapped_books", "raw_books")}
    assert KITAB_ONE.read({**ROW, **lists}, "f:1").meta["constrainedness"] == 0.0


def test_two_constraints_have_one_name_in_any_order():
    types = ["['word-count', 'ends-with']", ["ends-with", "word-count"]]
    groups = {KITAB_TWO.read({**ROW, "constraint_type": kind}, "f:1").meta["constraint_type"] for kind in types}
    assert groups == {"ends-with and word-count"}


@pytest.mark.parametrize(
    "value", ["Vale", "['Vale'", "__import__('os')", "[x for x in 'ab']", "[1]", "{}", 5, "[" * 100_000, "['a', *[]"]
)
def test_a_list_that_is_none_is_refused_with_its_place(value):
    with pytest.raises(UserError, match="f:1: 'mapped_books' must be a list of titles"):
        KITAB_ONE.read({**ROW, "mapped_books": value}, "f:1")


def test_a_missing_field_is_refused_with_its_place():
    with pytest.raises(UserError, match="f:1 has no 'raw_books'"):
        KITAB_ONE.read({key: value for key, value in ROW.items() if key != "raw_books"}, "f:1")


def test_the_summary_counts_a_response_without_a_list_as_zero():
    problem = KITAB_ONE.read(ROW, "f:1")
    responses = []
    for run, text in enumerate(["Output:\n1. Title: Vale\n2. Title: Oak", "I do not know."]):
        verdict = KITAB_ONE.make_verifier(False)(text, problem.answer)
        responses.append(
            Response(
                problem.id, run, text, 1, "stop", verdict.correct, verdict.score, None, verdict.status, verdict.parts
            )
        )
    assert KITAB_ONE.summary(responses, {}) == {
        "satisfied": 0.25,
        "unsatisfied": 0.25,
        "not from author": 0.0,
        "completeness": 0.25,
        "all correct": 0.0,
    }
