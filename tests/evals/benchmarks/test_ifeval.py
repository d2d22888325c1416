import json
from collections import Counter

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.ifeval import IFEVAL
from phi4r.evals.responses import Response
from phi4r.verifiers.instructions import FAMILIES, INSTRUCTIONS

ROW = {
    "key": 7,
    "prompt": "Write two bullets without commas.",
    "instruction_id_list": ["punctuation:no_comma", "detectable_format:number_bullet_lists"],
    # As the table on the Hub has it: every instruction with the arguments of all types.
    "kwargs": [{"num_bullets": None, "keywords": None}, {"num_bullets": 2, "keywords": None}],
}


def test_a_row_becomes_a_problem():
    problem = IFEVAL.read(ROW, "f:1")
    assert (problem.id, problem.prompt) == ("ifeval-7", ROW["prompt"])
    assert json.loads(problem.answer)["kwargs"] == [{}, {"num_bullets": 2}]
    assert problem.meta["num_instructions"] == 2
    verifier = IFEVAL.make_verifier(True)
    assert verifier("<think></think>* a\n* b", problem.answer).correct
    assert not verifier("* a\n* b", problem.answer).correct


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": None}, "f:1 has no 'prompt'"),
        ({"key": None}, "f:1 has no 'key'"),
        ({"kwargs": [{}]}, "f:1: .* equal length"),
        ({"instruction_id_list": ["punctuation:no_comma", "no:such"]}, "f:1: unknown instruction 'no:such'"),
        ({"kwargs": [{}, {"num_bullets": "two"}]}, "f:1: instruction detectable_format:number_bullet_lists needs"),
    ],
)
def test_a_malformed_row_is_refused_with_its_place(change, message):
    with pytest.raises(UserError, match=message):
        IFEVAL.read({**ROW, **change}, "f:1")


def test_all_published_prompts_are_read(shared_data):
    rows = [json.loads(line) for line in (shared_data / "ifeval" / "input_data.jsonl").read_text().splitlines()]
    problems = [IFEVAL.read(row, f"f:{number}") for number, row in enumerate(rows, start=1)]
    assert len({problem.id for problem in problems}) == IFEVAL.num_items == 541
    types = Counter(name for problem in problems for name in problem.meta["instructions"])
    assert sum(types.values()) == sum(problem.meta["num_instructions"] for problem in problems) == 834
    assert set(types) == set(INSTRUCTIONS)
    verdicts = [IFEVAL.make_verifier(False)(problem.prompt, problem.answer) for problem in problems]
    assert {verdict.status for verdict in verdicts} == {"ok"}
    assert sum(verdict.parts["instructions"] for verdict in verdicts) == 834


def _response(identity, run, text, problem):
    verdict = IFEVAL.make_verifier(False)(text, problem.answer)
    return Response(
        identity, run, text, 1, "stop", verdict.correct, verdict.score, verdict.answer, verdict.status, verdict.parts
    )


def test_the_summary_has_both_levels_and_the_families():
    problem = IFEVAL.read(ROW, "f:1")
    groups = {problem.id: {"num_instructions": 2}}
    responses = [
        _response(problem.id, 0, "* a\n* b", problem),  # both
        _response(problem.id, 1, "Sure, so:\n* a\n* b", problem),  # strictly the bullets, loosely both
        _response(problem.id, 2, "a, b", problem),  # none
        _response(problem.id, 3, "", problem),  # none
    ]
    assert IFEVAL.summary(responses, groups) == {
        "prompt strict": 1 / 4,
        "prompt loose": 2 / 4,
        "instruction strict": 3 / 8,
        "instruction loose": 4 / 8,
        "strict detectable_format": 2 / 4,
        "strict punctuation": 1 / 4,
    }


def test_a_response_that_was_not_judged_follows_nothing():
    problem = IFEVAL.read(ROW, "f:1")
    late = Response(problem.id, 0, "x", 1, "stop", False, 0.0, None, "timeout")
    figures = IFEVAL.summary(
        [late, _response(problem.id, 1, "* a\n* b", problem)], {problem.id: {"num_instructions": 2}}
    )
    assert (figures["prompt strict"], figures["instruction loose"]) == (0.5, 0.5)
    assert IFEVAL.summary([], {}) == {}


def test_the_nine_families_are_those_of_the_ids():
    assert len(FAMILIES) == 9
