"""AIME: problems of the American Invitational Mathematics Examination, with answers from 0 to 999.

The sets that are about have their own spellings of the fields: `ID, Year, Part, Question, Answer` (1983 to 2024;
lchen001/AIME2025), `problem_idx, problem, answer` (MathArena), `id, problem, expected_answer` (NeMo-Skills).
"""

from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.math_prompt import math_prompt
from phi4r.evals.benchmarks.rows import row_id, text_of
from phi4r.verifiers.exact import IntegerVerifier, integer_answer

_MAX_DIGITS = 3
_PROBLEM = ("problem", "Problem", "Question", "question")
_ANSWER = ("expected_answer", "answer", "Answer")
_ID = ("ID", "id", "problem_idx")
_YEAR = ("Year", "year")


def _read(row: Mapping[str, Any], where: str) -> Problem:
    problem = text_of(row, _PROBLEM, where)
    answer = text_of(row, _ANSWER, where)
    number = integer_answer(answer, max_digits=_MAX_DIGITS)
    if number is None or number < 0:
        raise UserError(f"{where}: {answer!r} is no answer to a problem of AIME; give an integer from 0 to 999.")
    prompt = math_prompt(problem, form="an integer from 0 to 999")
    meta = {name.lower(): row[name] for name in ("Part", "part") if row.get(name)}
    return Problem(row_id(row, _ID, problem), prompt, str(number), meta)


def _read_with_year(row: Mapping[str, Any], where: str) -> Problem:
    problem = _read(row, where)
    year = text_of(row, _YEAR, where)
    if not (year.isascii() and year.isdecimal() and len(year) == 4):
        raise UserError(f"{where}: the year {year!r} must be a number of four digits.")
    return Problem(problem.id, problem.prompt, problem.answer, {**problem.meta, "year": int(year)})


def _make_verifier(thinking: bool) -> IntegerVerifier:
    return IntegerVerifier(thinking=thinking, max_digits=_MAX_DIGITS)


AIME_2025 = Benchmark(
    name="aime_2025",
    title="AIME 2025",
    hub="MathArena/aime_2025",
    files="data/train-*.parquet",
    licence="CC BY-NC-SA 4.0",
    read=_read,
    make_verifier=_make_verifier,
    num_runs=50,
    num_items=30,
)

AIME_2024 = Benchmark(
    name="aime_2024",
    title="AIME 2024",
    hub="HuggingFaceH4/aime_2024",
    files="data/train-*.parquet",
    licence="none stated; the problems are the MAA's",
    read=_read,
    make_verifier=_make_verifier,
    num_items=30,
)

AIME_1983_2024 = Benchmark(  # 949 problems in the report, 933 in the set on the Hub
    name="aime_1983_2024",
    title="AIME 1983-2024",
    hub="di-zhang-fdu/AIME_1983_2024",
    files="AIME_Dataset_1983_2024.csv",
    licence="MIT (the card); the problems are the MAA's",
    read=_read_with_year,
    make_verifier=_make_verifier,
    groups=("year",),
)
