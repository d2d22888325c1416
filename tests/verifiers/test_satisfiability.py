import json

import pytest

from phi4r.verifiers.satisfiability import SatVerifier, read_assignment, satisfied_share
from phi4r.verifiers.verdict import TwoSpeedVerifier

# (x1 or x2 or x3), (not x1 or not x2 or x4), (not x3 or not x4 or x1), (not x1 or x2 or not x4)
CLAUSES = [[1, 2, 3], [-1, -2, 4], [-3, -4, 1], [-1, 2, -4]]
REFERENCE = json.dumps({"clauses": CLAUSES, "num_vars": 4, "satisfiable": True})
EIGHT = [[a, 2 * b, 3 * c] for a in (1, -1) for b in (1, -1) for c in (1, -1)]  # every assignment fails one of them
NO_MODEL = json.dumps({"clauses": EIGHT, "num_vars": 3, "satisfiable": False})


def said(value: str) -> str:
    return f"I found it.\n<final_answer>{{'Solution': {value}}}</final_answer>"


@pytest.mark.parametrize(
    ("response", "correct", "share"),
    [
        (said("'True, True, False, True'"), True, 1.0),
        (said("'true,TRUE , False,True'"), True, 1.0),
        (said("'False, False, True, False'"), True, 1.0),  # another model
        (said("['True', 'True', 'False', 'True']"), True, 1.0),
        (said("[True, True, False, True]"), True, 1.0),
        (r"\boxed{abCd}", True, 1.0),
        (r"\boxed{True, True, False, True}", True, 1.0),
        (said("'abCd'"), True, 1.0),
        (said("'True, True, False, False'"), False, 0.75),
        (said("'False, False, False, True'"), False, 0.75),
        (said("'True, False, False, True'"), False, 0.75),
        (r"\boxed{ABCd}", False, 0.75),
        (said("'True, True, False'"), False, 0.0),
        (said("'True, True, False, True, True'"), False, 0.0),
        (said("'True, True, False, True,'"), False, 0.0),
        (said("'True, True, False, 1'"), False, 0.0),
        (said("''"), False, 0.0),
        (said("'Unsatisfiable'"), False, 0.0),
        (said("None"), False, 0.0),
        (r"\boxed{abC}", False, 0.0),
        (r"\boxed{abcde}", False, 0.0),
        (r"\boxed{baCd}", False, 0.0),
        (r"\boxed{none}", False, 0.0),
        ("<final_answer>True and True</final_answer>", False, 0.0),
        (said("'True, True, False, True'") + said("'True, True, False, False'"), False, 0.75),
    ],
)
def test_an_assignment_is_right_if_every_clause_holds(response, correct, share):
    verdict = SatVerifier()(response, REFERENCE)
    assert (verdict.correct, verdict.score, verdict.status) == (correct, float(correct), "ok")
    assert verdict.parts == {"clauses": share}


@pytest.mark.parametrize(
    ("response", "correct", "share"),
    [
        (said("'Unsatisfiable'"), True, 1.0),
        (said("'unsatisfiable'"), True, 1.0),
        ("<final_answer>'Unsatisfiable'</final_answer>", True, 1.0),
        (r"\boxed{none}", True, 1.0),
        (r"\boxed{Unsatisfiable}", True, 1.0),
        (said("'True, True, True'"), False, 0.875),
        (said("'Not unsatisfiable'"), False, 0.0),
        (said("'None'") + said("'True'"), False, 0.0),
        (r"\boxed{abc}", False, 0.875),
    ],
)
def test_the_claim_that_there_is_no_model_is_right_where_there_is_none(response, correct, share):
    verdict = SatVerifier()(response, NO_MODEL)
    assert (verdict.correct, verdict.parts, verdict.status) == (correct, {"clauses": share}, "ok")


def test_a_response_without_an_answer_is_told_apart_from_a_wrong_one():
    assert SatVerifier()("It is unsatisfiable.", NO_MODEL).status == "no_answer"
    cut_off = "<think>" + said("'Unsatisfiable'")
    assert SatVerifier(thinking=True)(cut_off, NO_MODEL).status == "no_answer"
    assert SatVerifier(thinking=True)(cut_off + "</think>" + said("'Unsatisfiable'"), NO_MODEL).correct


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "True, True",
        "[]",
        "3",
        "[" * 100_000,
        json.dumps({"clauses": CLAUSES, "num_vars": 4}),
        json.dumps({"clauses": [], "num_vars": 4, "satisfiable": True}),
        json.dumps({"clauses": [[]], "num_vars": 4, "satisfiable": True}),
        json.dumps({"clauses": [[1, 0, 2]], "num_vars": 4, "satisfiable": True}),
        json.dumps({"clauses": [[1, 5, 2]], "num_vars": 4, "satisfiable": True}),
        json.dumps({"clauses": [[1, "2", 3]], "num_vars": 4, "satisfiable": True}),
        json.dumps({"clauses": [1, 2], "num_vars": 4, "satisfiable": True}),
        json.dumps({"clauses": CLAUSES, "num_vars": "4", "satisfiable": True}),
        json.dumps({"clauses": CLAUSES, "num_vars": 4, "satisfiable": 1}),
        json.dumps({"clauses": CLAUSES, "num_vars": 4, "satisfiable": False}),  # the answer is a model
    ],
)
def test_a_malformed_reference_is_an_error_of_the_judge(reference):
    assert SatVerifier()(said("'True, True, False, True'"), reference).status == "error"


def test_assignments_and_shares_by_hand():
    assert read_assignment("True, False", 2) == read_assignment("aB", 2) == [True, False]
    assert read_assignment("AB", 2) == [False, False]
    assert read_assignment("abcdefghij\u212a", 11) is None  # the Kelvin sign, whose lower case is k
    assert satisfied_share(CLAUSES, [False, False, False, False]) == 0.75


def test_every_verdict_is_cheap():
    assert isinstance(SatVerifier(), TwoSpeedVerifier)
    assert SatVerifier().quick(said("'Unsatisfiable'"), NO_MODEL) == SatVerifier()(said("'Unsatisfiable'"), NO_MODEL)
