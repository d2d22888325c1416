"""Kitab: all books of an author that satisfy one or two constraints (arXiv 2310.15511)."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import first_of, row_id, text_of
from phi4r.evals.responses import Response
from phi4r.verifiers.titles import TitlesVerifier

_FIGURES = ("satisfied", "unsatisfied", "not_from_author", "completeness", "all_correct")
_MAX_LIST_LENGTH = 1_000_000  # characters

_PROMPT = """\
Which books did {author} (born in {birth_year}) write that meet every requirement below? Name all of them, by their \
English titles, and no other book.

Requirements: {constraints}

Check each book against each requirement. Then finish with the list, with one book a line and nothing after it, in \
exactly this form:

Output:
1. Title: <title>
2. Title: <title>

If no book meets the requirements, finish with these two lines:

Output:
None"""


def _read(row: Mapping[str, Any], where: str) -> Problem:
    """Reads a row of microsoft/kitab; lists are lists, or texts that spell one.

    `mapped_books` are the books that satisfy the constraints, `all_books` all of the author's that are known well
    ("Title (year)"), `raw_books` all that a catalogue has under the name, some of them doubtful.
    """
    author, year = text_of(row, ("Author",), where), text_of(row, ("Birth Year",), where)
    constraints = text_of(row, ("constraints",), where)
    satisfying, known, raw = (_titles(row, name, where) for name in ("mapped_books", "all_books", "raw_books"))
    prompt = _PROMPT.format(author=author, birth_year=year, constraints=constraints)
    answer = {"satisfying": satisfying, "others": known, "ignored": raw}  # a title counts where it is first
    meta = {
        "author": author,
        "constraint_type": _constraint_type(row, where),
        "constrainedness": round(1 - len(satisfying) / len(known), 4) if known else 0.0,
    }
    return Problem(row_id(row, (), prompt), prompt, json.dumps(answer), meta)


def _summarise(responses: Sequence[Response], groups: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Returns the five figures of the benchmark, means over all responses; one that has no list counts as 0."""
    del groups
    if not responses:
        return {}
    return {
        name.replace("_", " "): sum(response.parts.get(name, 0.0) for response in responses) / len(responses)
        for name in _FIGURES
    }


def _titles(row: Mapping[str, Any], name: str, where: str) -> list[str]:
    titles = _listed(first_of(row, (name,), where))
    if titles is None or not all(isinstance(title, str) for title in titles):
        raise UserError(f"{where}: '{name}' must be a list of titles, or a text that spells one.")
    return titles


def _constraint_type(row: Mapping[str, Any], where: str) -> str:
    """Returns the types of the constraints: one name, or two of a list, in the order of the alphabet."""
    value = first_of(row, ("constraint_type",), where)
    types = _listed(value) or [value]
    return " and ".join(sorted(map(str, types)))


def _listed(value: Any) -> list | None:
    """Returns a list, read from a text where needed; None if it is none."""
    if isinstance(value, str):
        if len(value) > _MAX_LIST_LENGTH or not value.lstrip().startswith("["):
            return None
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, list) else None


def _kitab(number: str, num_items: int) -> Benchmark:
    return Benchmark(
        name=f"kitab_{number}",
        title=f"Kitab, {number} constraint{'s' * (number == 'two')}",
        hub="microsoft/kitab",
        files=f"data/KITAB-{number.upper()}-BOOK-CONSTRAINTS.json",
        licence="MIT",
        read=_read,
        make_verifier=lambda thinking: TitlesVerifier(thinking=thinking),
        num_runs=1,  # not in the paper
        groups=("constraint_type",),
        num_items=num_items,
        summary=_summarise,
    )


KITAB_ONE = _kitab("one", 8239)
KITAB_TWO = _kitab("two", 4750)
