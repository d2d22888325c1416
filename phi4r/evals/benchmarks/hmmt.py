"""HMMT: the Harvard-MIT Mathematics Tournament, with answers in LaTeX."""

from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.math_prompt import math_prompt
from phi4r.evals.benchmarks.rows import row_id, text_of
from phi4r.verifiers.math import MathVerifier


def _read(row: Mapping[str, Any], where: str) -> Problem:
    problem = text_of(row, ("problem",), where)
    answer = text_of(row, ("answer", "expected_answer"), where)
    types = row.get("problem_type") or []
    subject = types if isinstance(types, str) else " and ".join(map(str, types))
    meta = {"subject": subject} if subject else {}
    return Problem(row_id(row, ("problem_idx", "id"), problem), math_prompt(problem), answer, meta)


HMMT_FEB_2025 = Benchmark(
    name="hmmt_feb_2025",
    title="HMMT February 2025",
    hub="MathArena/hmmt_feb_2025",
    files="data/train-*.parquet",
    licence="CC BY-NC-SA 4.0",
    read=_read,
    make_verifier=lambda thinking: MathVerifier(thinking=thinking),
    groups=("subject",),
    num_items=30,
)
