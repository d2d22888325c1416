"""HumanEval+ (arXiv 2305.01210): functions to write from their docstrings, with many tests for each."""

import json
from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import first_of, row_id, text_of
from phi4r.verifiers.code.function_tests import FunctionTests
from phi4r.verifiers.code.humaneval import HumanEvalVerifier

_FULL_FILE = "HumanEvalPlus.jsonl.gz among the releases of github.com/evalplus/humanevalplus_release"


def function_prompt(head: str, entry_point: str) -> str:
    """Returns the prompt for a function.

    Args:
      head: its imports, signature and docstring.
      entry_point: its name.
    """
    return (
        f"Write the body of the Python 3 function `{entry_point}`, so that it does what its docstring says:\n\n"
        f"```python\n{head.strip()}\n```\n\n"
        "The function is called from outside with many arguments, so read no input and print nothing. End your "
        "response with all of it, with its imports and its signature as given, in one Python block:\n\n"
        "```python\n# your code\n```"
    )


def _read(row: Mapping[str, Any], where: str) -> Problem:
    """Reads a row of HumanEvalPlus.jsonl."""
    if "base_input" not in row and "test" in row:
        raise UserError(f"{where} has tests as code only, which is not run here; pass {_FULL_FILE}.")
    entry_point = text_of(row, ("entry_point",), where)
    head, solution = (_code(row, key, where) for key in ("prompt", "canonical_solution"))
    base_input, plus_input = (_values(row, key, where) for key in ("base_input", "plus_input"))
    try:
        tests = FunctionTests(head, entry_point, solution, base_input, plus_input, row.get("atol") or 0.0)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    meta = {"entry_point": entry_point, "num_tests": len(tests.inputs)}
    return Problem(row_id(row, ("task_id",), head), function_prompt(head, entry_point), tests.to_reference(), meta)


def _code(row: Mapping[str, Any], key: str, where: str) -> str:
    """Returns code as it is written: blank space around it counts."""
    text_of(row, (key,), where)
    return row[key]


def _values(row: Mapping[str, Any], key: str, where: str) -> Any:
    """Returns the inputs of a row: values, or JSON text."""
    value = first_of(row, (key,), where)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: {key!r} is not valid JSON ({error}).") from error


HUMANEVAL_PLUS = Benchmark(
    name="humaneval_plus",
    title="HumanEval+",
    hub="evalplus/humanevalplus",
    files="test.jsonl",
    licence="Apache 2.0",
    read=_read,
    make_verifier=lambda thinking: HumanEvalVerifier(thinking=thinking),
    num_items=164,
)
