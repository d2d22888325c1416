import json

import pytest

from phi4r.errors import UserError
from phi4r.verifiers.code.program_tests import ProgramTests


@pytest.mark.parametrize("size", [1, 2000])
def test_tests_come_back_from_their_reference(size):
    tests = ProgramTests(("1 2\n" * size, ""), ("3\n", "é\u4f60"), None, 2.5, 256)
    reference = tests.to_reference()
    assert reference.startswith("{") is (size == 1)
    assert len(reference) < 4096
    assert ProgramTests.from_reference(reference) == tests


def test_a_reference_may_say_no_more_than_its_tests():
    tests = ProgramTests.from_reference('{"tests": [{"input": "1", "output": "2"}]}')
    assert tests == ProgramTests(("1",), ("2",), None, 6.0, 1024)


def test_arguments_are_a_line_of_json_each():
    tests = ProgramTests(('[1, 2]\n"a"\n', ""), ("3", "null"), "solve")
    assert tests.arguments(0) == [[1, 2], "a"]
    assert tests.arguments(1) == []
    assert (tests.result(0), tests.result(1)) == (3, None)


TEST = {"input": "1", "output": "2"}


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "42",
        "{",
        "[]",
        "{}",
        "x" * 5000,
        json.dumps({"tests": []}),
        json.dumps({"tests": "1"}),
        json.dumps({"tests": [1]}),
        json.dumps({"tests": [{"input": "1"}]}),
        json.dumps({"tests": [{"input": 1, "output": "2"}]}),
        json.dumps({"tests": [TEST], "func_name": 3}),
        json.dumps({"tests": [TEST], "func_name": "os.system"}),
        json.dumps({"tests": [TEST], "seconds": "6"}),
        json.dumps({"tests": [TEST], "seconds": 0}),
        json.dumps({"tests": [TEST], "seconds": float("nan")}),
        json.dumps({"tests": [TEST], "memory_mb": 0}),
        json.dumps({"tests": [{"input": "x y", "output": "2"}], "func_name": "f"}),
        json.dumps({"tests": [{"input": "1", "output": ""}], "func_name": "f"}),
        '{"tests": ' + "[" * 100_000,
    ],
)
def test_what_is_no_reference_is_refused(reference):
    with pytest.raises(UserError):
        ProgramTests.from_reference(reference)
