import json

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.humaneval import HUMANEVAL_PLUS
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.verifiers.code.function_tests import FunctionTests
from phi4r.verifiers.code.humaneval import HumanEvalVerifier


def row(**changes) -> dict:
    return {
        "task_id": "HumanEval/7",
        "prompt": 'import math\n\n\ndef twice(x):\n    """Returns 2 x."""\n',
        "entry_point": "twice",
        "canonical_solution": "\n    return 2 * x\n\n",
        "base_input": [[1], [2]],
        "plus_input": [[0.5]],
        "atol": 0,
        "contract": "",
        "test": "",
        **changes,
    }


def test_a_row_becomes_a_prompt_and_tests():
    problem = HUMANEVAL_PLUS.read(row(), "f:1")
    assert (problem.id, problem.meta) == ("HumanEval/7", {"entry_point": "twice", "num_tests": 3})
    assert '```python\nimport math\n\n\ndef twice(x):\n    """Returns 2 x."""\n```' in problem.prompt
    assert problem.prompt.endswith("```python\n# your code\n```")
    assert "2 * x" not in problem.prompt and "0.5" not in problem.prompt
    tests = FunctionTests.from_reference(problem.answer)
    assert tests == FunctionTests(row()["prompt"], "twice", "\n    return 2 * x\n\n", [[1], [2]], [[0.5]], 0.0)
    assert HUMANEVAL_PLUS.make_verifier(True) == HumanEvalVerifier(thinking=True)


def test_inputs_may_be_json_text_and_the_tolerance_missing():
    changed = row(base_input="[[1], [2]]", plus_input="[[NaN]]", atol=None)
    tests = FunctionTests.from_reference(HUMANEVAL_PLUS.read(changed, "f:1").answer)
    assert tests.base_input == [[1], [2]] and tests.atol == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": None}, "f:1 has no 'prompt'"),
        ({"canonical_solution": 5.5}, "f:1: 'canonical_solution' must be text"),
        ({"entry_point": "a.b"}, "f:1: 'entry_point' must be the name"),
        ({"base_input": None}, "f:1 has no 'base_input'"),
        ({"base_input": []}, "f:1: 'base_input' has no inputs"),
        ({"plus_input": "[[1]"}, "f:1: 'plus_input' is not valid JSON"),
        ({"plus_input": 3}, "f:1: 'plus_input' must be a list"),
        ({"atol": "x"}, "f:1: 'atol' must be a number"),
    ],
)
def test_malformed_rows_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        HUMANEVAL_PLUS.read(row(**changes), "f:1")


def test_rows_whose_tests_are_code_say_where_the_inputs_are():
    given = {key: value for key, value in row().items() if key not in ("base_input", "plus_input")}
    with pytest.raises(UserError, match=r"HumanEvalPlus\.jsonl\.gz"):
        HUMANEVAL_PLUS.read(given, "f:1")


@pytest.mark.parametrize("name", ["HumanEvalPlus.jsonl.gz", "HumanEvalPlus-Mini.jsonl.gz"])
def test_the_published_files_are_read_whole(shared_data, name):
    loaded = load_benchmark(HUMANEVAL_PLUS, str(shared_data / "humanevalplus" / name))
    assert len(loaded.problems) == HUMANEVAL_PLUS.num_items and not loaded.malformed
    assert loaded.problems[32].id == "HumanEval/32" and json.loads(loaded.problems[32].answer)["atol"] == 1e-4
    assert all(problem.meta["entry_point"] in problem.prompt for problem in loaded.problems)
