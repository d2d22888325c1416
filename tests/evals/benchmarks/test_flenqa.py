import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.flenqa import FLENQA_HUB, FLENQA_HUB_3K

ROW = {
    "sample_id": 3,
    "global_sample_id": 103,
    "dataset": "MonoRel",
    "label": "False",
    "mixin": "Ada is older than Ben.\nBen is older than Cleo.",
    "assertion/question": "Is Cleo older than Ada?",
    "facts": ["Ada is older than Ben.", "Ben is older than Cleo."],
    "rule": None,
    "statement": None,
    "ctx_size": 3000,
    "padding_type": "books",
    "dispersion": "middle",
}
RULES = {
    **ROW,
    "dataset": "Simplified RuleTaker",
    "rule": "['If X is tall and X is kind then X is calm.']",
    "assertion/question": "Ada is calm.",
}


def test_a_published_row_becomes_a_question_with_its_cell():
    problem = FLENQA_HUB.read(ROW, "f:1")
    assert problem.id == "flenqa-103-3000-books-middle"
    assert problem.meta == {"length": 3000, "padding": "books", "dispersion": "middle", "kind": "relations"}
    assert ROW["mixin"] in problem.prompt
    assert ROW["assertion/question"] in problem.prompt
    assert "Rule:" not in problem.prompt
    assert FLENQA_HUB.make_verifier(thinking=False)("False", problem.answer).correct


@pytest.mark.parametrize("rule", [RULES["rule"], ["If X is tall and X is kind then X is calm."]])
def test_the_rule_that_the_text_lacks_is_written_without_its_brackets(rule):
    prompt = FLENQA_HUB.read({**RULES, "rule": rule, "label": True}, "f:1").prompt
    assert "\nRule: If X is tall and X is kind then X is calm.\n" in prompt


def test_the_subset_of_the_report_leaves_shorter_texts_out():
    assert FLENQA_HUB_3K.read(ROW, "f:1") == FLENQA_HUB.read(ROW, "f:1")
    assert FLENQA_HUB_3K.read({**ROW, "ctx_size": 2000}, "f:1") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "Kitab"}, "'dataset' must be one of PIR, MonoRel"),
        ({"label": "maybe"}, "'label' True or False"),
        ({"ctx_size": "long"}, "a whole number"),
        ({"mixin": ""}, "'mixin' is empty"),
        ({"dataset": "Simplified RuleTaker"}, "no 'rule'"),
        ({"dispersion": None}, "no 'dispersion'"),
    ],
)
def test_a_malformed_row_is_named(change, message):
    with pytest.raises(UserError, match=message) as error:
        FLENQA_HUB.read({**ROW, **change}, "file.jsonl:7")
    assert str(error.value).startswith("file.jsonl:7")
