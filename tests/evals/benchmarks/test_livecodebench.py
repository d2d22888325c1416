import base64
import datetime
import json
import pickle
import zlib

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.livecodebench import LIVECODEBENCH, make_read
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.verifiers.code.program_tests import ProgramTests

PUBLIC = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]
PRIVATE = [{"input": "10 20\n", "output": "30\n", "testtype": "stdin"}]
PROGRAM = {
    "question_title": "Sum",
    "question_content": "Print the sum of two numbers.",
    "platform": "atcoder",
    "question_id": "abc370_a",
    "contest_id": "abc370",
    "contest_date": "2024-09-07T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps(PUBLIC),
    "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(json.dumps(PRIVATE)))).decode(),
    "metadata": "{}",
}
FUNCTION = {
    **PROGRAM,
    "platform": "leetcode",
    "question_id": "3550",
    "starter_code": "class Solution:\n    def double(self, xs: List[int]) -> List[int]:\n        ",
    "public_test_cases": json.dumps([{"input": "[1, 2]", "output": "[2, 4]", "testtype": "functional"}]),
    "private_test_cases": json.dumps([{"input": "[]", "output": "[]", "testtype": "functional"}]),
    "metadata": '{"func_name": "double"}',
}


def _read(row):
    return LIVECODEBENCH.read(row, "lcb.jsonl:7")


def test_a_program_has_public_and_pickled_private_tests():
    problem = _read(PROGRAM)
    assert problem.id == "abc370_a"
    assert problem.prompt.startswith("Print the sum of two numbers.") and "standard input" in problem.prompt
    assert ProgramTests.from_reference(problem.answer) == ProgramTests(("1 2\n", "10 20\n"), ("3\n", "30\n"))
    assert problem.meta == {"difficulty": "easy", "platform": "atcoder", "contest_date": "2024-09-07"}


def test_a_function_has_its_starter_code_and_tests_in_json():
    problem = _read(FUNCTION)
    assert FUNCTION["starter_code"] in problem.prompt and "standard input" not in problem.prompt
    tests = ProgramTests.from_reference(problem.answer)
    assert (tests.func_name, tests.inputs, tests.outputs) == ("double", ("[1, 2]", "[]"), ("[2, 4]", "[]"))


def test_fields_may_be_values_already_and_dates_without_a_time():
    row = {**PROGRAM, "public_test_cases": PUBLIC, "metadata": {}, "starter_code": None, "contest_date": "2024-09-07"}
    assert _read(row) == _read(PROGRAM)


@pytest.mark.parametrize(
    "day, inside",
    [("2024-07-31", False), ("2024-08-01", True), ("2025-01-31T23:59:59", True), ("2025-02-01", False)],
)
def test_the_window_of_the_paper_is_august_2024_to_january_2025(day, inside):
    assert (_read({**PROGRAM, "contest_date": day}) is not None) is inside


def test_another_window_may_be_read():
    read = make_read(datetime.date(2023, 5, 1), datetime.date(2023, 5, 1))
    assert read({**PROGRAM, "contest_date": "2023-05-01"}, "x:1") is not None
    assert read(PROGRAM, "x:1") is None


class _Bomb:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize(
    "change",
    [
        {"contest_date": None},
        {"contest_date": "in August"},
        {"question_content": ""},
        {"difficulty": None},
        {"public_test_cases": None},
        {"public_test_cases": "[{]"},
        {"public_test_cases": "{}"},
        {"public_test_cases": '[{"input": 1, "output": "2"}]'},
        {"private_test_cases": "no tests"},
        {"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(_Bomb()))).decode()},
        {"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(PRIVATE))).decode()},
        {"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps("no JSON"))).decode()},
        {"public_test_cases": "[]", "private_test_cases": "[]"},
        {"metadata": "[]"},
        {"metadata": "{"},
        {"metadata": '{"func_name": 3}'},
        {"metadata": '{"func_name": "double"}'},
        {"starter_code": "class Solution: ..."},
        {"starter_code": 3},
    ],
)
def test_a_malformed_row_is_named(change, capsys):
    with pytest.raises(UserError, match=r"^lcb\.jsonl:7"):
        _read({**PROGRAM, **change})
    assert capsys.readouterr().out == ""


def test_functional_tests_must_be_json():
    row = {**FUNCTION, "private_test_cases": '[{"input": "1 2", "output": "[]"}]'}
    with pytest.raises(UserError, match=r"^lcb\.jsonl:7: the input of test 1 must be JSON"):
        _read(row)


def test_rows_are_loaded_asked_and_judged(tmp_path):
    rows = [PROGRAM, {**PROGRAM, "question_id": "old", "contest_date": "2024-01-01"}, FUNCTION]
    (tmp_path / "test5.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    program, function = load_benchmark(LIVECODEBENCH, str(tmp_path)).problems
    verifier = LIVECODEBENCH.make_verifier(True)
    response = "<think>Hm.</think>\n```python\n{}\n```"
    assert verifier(response.format("print(sum(map(int, input().split())))"), program.answer).correct
    double = "class Solution:\n    def double(self, xs: List[int]):\n        return [2 * x for x in xs]"
    assert verifier(response.format(double), function.answer).correct
    half = verifier(response.format(double.replace("2", "3")), function.answer)
    assert not half.correct and half.parts == {"tests": 0.0}
