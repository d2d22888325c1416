"""Omni-MATH (arXiv 2410.07985): problems of olympiads; those whose answers a rule can judge, and all of them.

The authors chose 2821 of the 4428 problems by hand, after models had answered them, for answers that are "sufficiently
simple and clear" (Omni-MATH-Rule); no field marks them. That file is read whole. Of the full file of the Hub a row
counts if its reference is short and is no prose: close to their choice and a little larger, so quote which was used.
`omni_math_full` asks all 4428; there a language model judges what the rules did not find right (`judge`).
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.math_prompt import math_prompt
from phi4r.evals.benchmarks.rows import first_of, row_id, text_of
from phi4r.verifiers.math import MathVerifier, reference_forms

_MAX_ANSWER_LENGTH = 150  # characters; the longest that the authors chose has 136
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_PROSE = re.compile(r"[A-Za-z]{2,}\s+[a-z]{2,}")
_ROOT = "Mathematics"


def rule_checkable(answer: str) -> bool:
    """Whether a rule can judge answers against this reference: it is short, and no sentence (a name may be)."""
    forms = reference_forms(answer)
    return all(0 < len(form) <= _MAX_ANSWER_LENGTH and not _PROSE.search(_COMMAND.sub(" ", form)) for form in forms)


def _read_checkable(row: Mapping[str, Any], where: str) -> Problem | None:
    """Returns the problem of a row; None where no rule can judge answers to it."""
    problem = _read(row, where)
    return problem if rule_checkable(problem.answer) else None


def _read(row: Mapping[str, Any], where: str) -> Problem:
    problem = text_of(row, ("problem",), where)
    answer = first_of(row, ("answer",), where)
    if not isinstance(answer, str) or not answer.strip():
        raise UserError(f"{where}: 'answer' must be text that says something, not {answer!r}.")
    difficulty = first_of(row, ("difficulty",), where)
    if isinstance(difficulty, bool) or not isinstance(difficulty, int | float) or not 0 <= difficulty <= 10:
        raise UserError(f"{where}: 'difficulty' must be a number from 0 to 10, not {difficulty!r}.")
    meta = {
        "domain": _domain(row.get("domain") or []),
        "difficulty": int(difficulty),  # rated in quarters; each whole number is a group
        "rating": difficulty,
        "source": row.get("source") or "",
    }
    return Problem(row_id(row, (), problem), math_prompt(problem), answer, meta)


def _domain(domains: list[str] | str) -> str:
    """Returns the field of mathematics of "Mathematics -> Algebra -> ...", of the first domain if there are several."""
    first = domains if isinstance(domains, str) else next(iter(domains), "")
    levels = [level.strip() for level in first.split("->")]
    levels = levels[1:] if levels[0] == _ROOT else levels
    return levels[0] if levels and levels[0] else "Other"


OMNI_MATH = Benchmark(
    name="omni_math",
    title="Omni-MATH (rule)",
    hub="KbsdJames/Omni-MATH",
    files="test.jsonl",
    licence="Apache-2.0",
    read=_read_checkable,
    make_verifier=lambda thinking: MathVerifier(thinking=thinking),
    groups=("domain", "difficulty"),
    num_items=2821,
)
OMNI_MATH_FULL = dataclasses.replace(
    OMNI_MATH, name="omni_math_full", title="Omni-MATH", read=_read, num_items=4428, judge="equivalence"
)
