"""LiveCodeBench (arXiv 2403.07974): problems of programming contests, by the day on which they were set.

The published files hold problems of several years; the window of the paper's evaluation is August 2024 to January
2025, after the training data of most models that it compares. `make_read` takes another one.
"""

import datetime
from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark, ReadRow
from phi4r.evals.benchmarks.rows import first_of, row_id, text_of
from phi4r.verifiers.code.livecodebench import LiveCodeBenchVerifier
from phi4r.verifiers.code.pickled_text import decode_pickled_text
from phi4r.verifiers.code.program_tests import ProgramTests, parse_json, read_tests

FIRST_DAY = datetime.date(2024, 8, 1)
LAST_DAY = datetime.date(2025, 1, 31)

_BLOCK = "End your response with the whole program in one Python block:\n\n```python\n# your program\n```"
_PROGRAM = (
    "Write a Python 3 program that reads its input from standard input and writes its output to standard output, with "
    "nothing before or after it."
)
_FUNCTION = (
    "Write the solution in Python 3. Keep the class and the signature of this code; it is called from outside, so read "
    "no input and print nothing:\n\n```python\n{starter}\n```"
)


def program_prompt(statement: str) -> str:
    """Returns the prompt for a whole program."""
    return f"{statement}\n\n{_PROGRAM} {_BLOCK}"


def function_prompt(statement: str, starter: str) -> str:
    """Returns the prompt for a function whose class and signature `starter` gives."""
    return f"{statement}\n\n{_FUNCTION.format(starter=starter)}\n\n{_BLOCK}"


def make_read(first_day: datetime.date = FIRST_DAY, last_day: datetime.date = LAST_DAY) -> ReadRow:
    """Returns what reads the problems of contests from `first_day` to `last_day`, both included."""

    def read(row: Mapping[str, Any], where: str) -> Problem | None:
        day = _day(row, where)
        return _problem(row, day, where) if first_day <= day <= last_day else None

    return read


def _problem(row: Mapping[str, Any], day: datetime.date, where: str) -> Problem:
    statement = text_of(row, ("question_content",), where)
    starter = row.get("starter_code") or ""
    func_name = _func_name(row, where)
    if not isinstance(starter, str) or bool(starter.strip()) != (func_name is not None):
        raise UserError(f"{where}: a row with 'starter_code' needs metadata.func_name, and one without has none.")
    prompt = program_prompt(statement) if func_name is None else function_prompt(statement, starter.strip("\n"))
    meta = {
        "difficulty": text_of(row, ("difficulty",), where),
        "platform": text_of(row, ("platform",), where),
        "contest_date": day.isoformat(),
    }
    return Problem(row_id(row, ("question_id",), statement), prompt, _reference(row, func_name, where), meta)


def _reference(row: Mapping[str, Any], func_name: str | None, where: str) -> str:
    """Returns the public and private tests as the verifier reads them."""
    inputs: list[str] = []
    outputs: list[str] = []
    for key in ("public_test_cases", "private_test_cases"):
        try:
            given, expected = read_tests(_parsed(first_of(row, (key,), where)))
        except UserError as error:
            raise UserError(f"{where}: {key!r}: {error}") from error
        inputs += given
        outputs += expected
    try:
        return ProgramTests(tuple(inputs), tuple(outputs), func_name).to_reference()
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _func_name(row: Mapping[str, Any], where: str) -> str | None:
    """Returns the name of the function that a row asks for, None where it asks for a program."""
    try:
        metadata = _parsed(row.get("metadata") or {})
    except UserError as error:
        raise UserError(f"{where}: 'metadata': {error}") from error
    func_name = metadata.get("func_name") if isinstance(metadata, dict) else 0
    if not isinstance(func_name, str | None):
        raise UserError(f"{where}: 'metadata' must be an object whose func_name, if it has one, is text.")
    return func_name or None


def _parsed(value: Any) -> Any:
    """Returns what a field holds: values, JSON text, or a compressed pickle of JSON text."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    return parse_json(text if text[:1] in ("[", "{") else decode_pickled_text(text))


def _day(row: Mapping[str, Any], where: str) -> datetime.date:
    value = str(first_of(row, ("contest_date",), where))
    try:
        return datetime.date.fromisoformat(value[:10])
    except ValueError as error:
        raise UserError(f"{where}: 'contest_date' must be a date like 2024-08-01, not {value[:40]!r}.") from error


LIVECODEBENCH = Benchmark(
    name="livecodebench",
    title="LiveCodeBench",
    hub="livecodebench/code_generation_lite",
    files="test*.jsonl",
    licence="CC; problems belong to the contests' owners",
    read=make_read(),
    make_verifier=LiveCodeBenchVerifier,
    groups=("difficulty", "platform"),
)
