import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.toxigen import TOXIGEN

ROW = {"text": "people of that town are kind", "target_group": "town", "toxicity_human": 1.67}


@pytest.mark.parametrize(
    ("toxicity", "label", "score", "correct"),
    [(1.67, "neutral", 2, True), (2.5, "toxic", 3, True), (2.49, "neutral", 3, False), ("5", "toxic", 1, False)],
)
def test_a_row_becomes_a_problem(toxicity, label, score, correct):
    problem = TOXIGEN.read({**ROW, "toxicity_human": toxicity}, "f:1")
    assert problem.prompt.endswith("Statement: people of that town are kind")
    assert problem.meta == {"target_group": "town", "label": label, "group_and_label": f"town, {label}"}
    assert TOXIGEN.make_verifier(False)(f"Final score: {score}", problem.answer).correct is correct


@pytest.mark.parametrize("toxicity", [0.5, 5.5, "high", float("nan"), [1]])
def test_a_toxicity_that_is_not_on_the_scale_is_refused(toxicity):
    with pytest.raises(UserError, match="f:1: 'toxicity_human' must be a number from 1 to 5"):
        TOXIGEN.read({**ROW, "toxicity_human": toxicity}, "f:1")


@pytest.mark.parametrize("missing", ROW)
def test_a_missing_field_is_refused_with_its_place(missing):
    with pytest.raises(UserError, match="f:1"):
        TOXIGEN.read({**ROW, missing: None}, "f:1")
