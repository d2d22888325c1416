"""Problems of a benchmark, from the rows of a local place or of the Hub."""

import logging
from typing import NamedTuple

from phi4r.data.hub import download
from phi4r.data.records import Problem
from phi4r.data.tables import read_rows
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import HASHED

_log = logging.getLogger(__name__)

_SHOWN = 5  # malformed rows that are logged one by one


class LoadedProblems(NamedTuple):
    """What the rows of a place became.

    Attributes:
      problems: with distinct ids.
      malformed: what was wrong with the rows that could not be read, with file and line.
    """

    problems: tuple[Problem, ...]
    malformed: tuple[str, ...]


def load_benchmark(benchmark: Benchmark, place: str | None) -> LoadedProblems:
    """Reads the problems of a benchmark; rows that cannot be read are said and counted, and the rest is used.

    Args:
      benchmark: which.
      place: as `phi4r.data.tables` reads it; None for the Hub.

    Raises:
      UserError: if the data cannot be had, or no problem is left.
    """
    rows = read_rows(place or _from_hub(benchmark))
    problems: dict[str, Problem] = {}
    places: dict[str, str] = {}
    malformed: list[str] = []
    num_left_out = num_repeats = 0
    for where, row in rows:
        try:
            problem = benchmark.read(row, where)
            if problem is None:
                num_left_out += 1
                continue
            _check_text(problem, where)
            key = _free_id(problem, places, where)
        except UserError as error:
            malformed.append(str(error))
            continue
        num_repeats += key != problem.id
        problems[key] = Problem(key, problem.prompt, problem.answer, problem.meta)
        places[key] = where
    malformed = [*rows.malformed, *malformed]
    _report(benchmark, rows.place, len(problems), malformed, num_left_out, num_repeats)
    return LoadedProblems(tuple(problems.values()), tuple(malformed))


def _from_hub(benchmark: Benchmark) -> str:
    if not benchmark.hub:
        raise UserError(
            f"{benchmark.name} is not on the Hub (licence of the data: {benchmark.licence}); "
            f"pass your copy as {benchmark.name}:PATH."
        )
    return str(download(benchmark.hub, benchmark.files, licence=benchmark.licence))


def _check_text(problem: Problem, where: str) -> None:
    """Refuses halves of characters, which no tokenizer and no file takes."""
    try:
        "".join((problem.id, problem.prompt, problem.answer)).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where} has text that is not Unicode ({error.reason}); write the row again.") from error


def _free_id(problem: Problem, places: dict[str, str], where: str) -> str:
    """Returns the problem's id, or "ID-2" for a question that a set without ids asks for the second time."""
    if problem.id not in places:
        return problem.id
    if not problem.id.startswith(HASHED):
        raise UserError(f"{where} has the id {problem.id!r} of {places[problem.id]}; make the ids distinct.")
    number = 2
    while f"{problem.id}-{number}" in places:
        number += 1
    return f"{problem.id}-{number}"


def _report(
    benchmark: Benchmark, place: str, num_problems: int, malformed: list[str], num_left_out: int, num_repeats: int
) -> None:
    """Says what is not as it was published.

    Raises:
      UserError: if there is no problem.
    """
    for message in malformed[:_SHOWN]:
        _log.warning("Malformed: %s", message)
    if malformed:
        _log.warning("%s: %d malformed rows were left out of %s.", benchmark.name, len(malformed), place)
    if num_left_out:
        _log.info("%s: %d rows of %s do not belong to it.", benchmark.name, num_left_out, place)
    if num_repeats:
        _log.info("%s: %d rows of %s repeat a question; all are asked.", benchmark.name, num_repeats, place)
    if not num_problems:
        why = f"; the first: {malformed[0]}" if malformed else "."
        raise UserError(f"{place} has no problem of {benchmark.name}: {len(malformed)} rows are malformed{why}")
    if benchmark.num_items not in (None, num_problems):
        _log.warning(
            "%s: %d problems in %s; the published set has %d.",
            benchmark.name, num_problems, place, benchmark.num_items,
        )  # fmt: skip
