"""Codeforces: contests as a participant would take part in them, summed up as an Elo rating.

Statements, tests and standings are not published as a data set, so the rows are the user's. One JSON object a problem:

    contest       text or number, the same for all problems of a contest
    index         "A", "B1", ...: contest and index together name the problem
    statement     all that a participant reads, with the formats of input and output and the examples
    tests         [{"input": text, "output": text}, ...]; outputs are compared as in LiveCodeBench, so a problem with
                  several right outputs does not belong here
    time_limit    seconds a test may take, of this machine and of Python: allow more than the contest did, if you will
    memory_limit  MiB, optional; 1024 without it
    points        what the problem is worth; null or left out in a contest under ICPC rules
    rating        how hard the problem is, optional
    penalty       minutes for a wrong attempt under ICPC rules, optional; 10 without it
    standings     [{"rating": 1500, "score": 1250.0, "penalty": 0}, ...]: the participants' ratings before the contest,
                  and their points (or problems solved, with the penalty in minutes). Rated participants only. One row
                  of each contest has it; others may leave it out.

Problems of a contest that are not in the file count as unsolved.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.livecodebench import program_prompt
from phi4r.evals.benchmarks.rows import first_of, text_of
from phi4r.evals.elo import Standings, icpc_result, performance_rating, points_result, rating_percentile
from phi4r.evals.responses import Response
from phi4r.evals.scores import item_bootstrap_interval
from phi4r.verifiers.code.livecodebench import LiveCodeBenchVerifier
from phi4r.verifiers.code.program_tests import MEMORY_MB, ProgramTests, read_tests

_log = logging.getLogger(__name__)

NUM_ATTEMPTS = 10
MINUTES_PER_WRONG = 10.0
_BAND = 400  # rating points: problems as hard as each other


def elo_summary(responses: Sequence[Response], metas: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Rates a model by the ranks that it reaches; run 0 is its first attempt at a problem, run 1 its second.

    A contest that cannot be rated is logged and counted, and the rest is used.

    Args:
      responses: to all problems.
      metas: problem id -> `Problem.meta`.

    Returns:
      solved: share of problems with a right attempt.
      contests: number of those that were rated.
      unrated_contests: number of the others.
      elo: mean over contests of the rating that explains the rank.
      elo_low, elo_high: its 95% interval, a bootstrap over contests, where there are several.
      percentile: percentage of the participants of these contests that are rated below `elo`.
    """
    attempts: dict[str, list[bool]] = {}
    for response in sorted(responses, key=lambda response: response.run):
        attempts.setdefault(response.id, []).append(response.correct)
    contests: dict[str, list[str]] = {}
    for problem in attempts:
        contests.setdefault(str(metas[problem].get("contest")), []).append(problem)
    ratings: list[float] = []
    participants: list[np.ndarray] = []
    for contest, ids in contests.items():
        try:
            rating, others = _rating([metas[i] for i in ids], [attempts[i] for i in ids])
        except UserError as error:
            _log.warning("Contest %s is not rated: %s", contest, error)
            continue
        ratings.append(rating)
        participants.append(others)
    figures = {
        "solved": sum(map(any, attempts.values())) / max(len(attempts), 1),
        "contests": float(len(ratings)),
        "unrated_contests": float(len(contests) - len(ratings)),
    }
    return {**figures, **_elo(np.array(ratings), np.concatenate(participants))} if ratings else figures


def _elo(ratings: np.ndarray, participants: np.ndarray) -> dict[str, float]:
    """Returns the mean of a model's ratings [contests], its interval and its place among participants [P]."""
    elo = float(ratings.mean())
    figures = {"elo": elo, "percentile": rating_percentile(elo, participants)}
    if len(ratings) > 1:
        interval = item_bootstrap_interval(ratings[:, None])
        figures |= {"elo_low": interval.low, "elo_high": interval.high}
    return figures


def _rating(problems: Sequence[Mapping[str, Any]], attempts: Sequence[Sequence[bool]]) -> tuple[float, np.ndarray]:
    """Returns the rating that explains how a contest went, and those of its participants."""
    standings = _contest_standings(problems)
    points = [problem["points"] for problem in problems]
    if all(worth is not None for worth in points):
        rank = standings.rank(points_result(points, attempts))
    elif any(worth is not None for worth in points):
        raise UserError("it has problems with points and without; give all of them or none.")
    else:
        rank = standings.rank(*icpc_result(attempts, minutes_per_wrong=problems[0]["penalty"]))
    return performance_rating(rank, standings.ratings), standings.ratings


def _contest_standings(problems: Sequence[Mapping[str, Any]]) -> Standings:
    """Returns the standings, which one problem of the contest has."""
    tables = [problem["standings"] for problem in problems if problem.get("standings")]
    if not tables or any(table != tables[0] for table in tables):
        what = "different standings in several rows" if tables else "no standings"
        raise UserError(f"it has {what}; give one row of each contest its standings.")
    return Standings(*np.array(tables[0], np.float64).T)


def _read(row: Mapping[str, Any], where: str) -> Problem:
    contest, index = text_of(row, ("contest",), where), text_of(row, ("index",), where)
    points = None if row.get("points") is None else _number(row, "points", where)
    rating = None if row.get("rating") is None else _number(row, "rating", where)
    meta = {
        "contest": contest,
        "index": index,
        "points": points,
        "penalty": _number(row, "penalty", where) if row.get("penalty") is not None else MINUTES_PER_WRONG,
        "standings": [_standing(entry, where) for entry in _standings(row, where)],
    }
    if rating is not None:
        low = int(rating // _BAND) * _BAND
        meta |= {"rating": rating, "difficulty": low}
    return Problem(
        f"{contest}-{index}", program_prompt(text_of(row, ("statement",), where)), _reference(row, where), meta
    )


def _reference(row: Mapping[str, Any], where: str) -> str:
    tests, seconds = first_of(row, ("tests",), where), _number(row, "time_limit", where)
    memory_mb = MEMORY_MB if row.get("memory_limit") is None else int(_number(row, "memory_limit", where))
    try:
        return ProgramTests(*read_tests(tests), seconds=seconds, memory_mb=memory_mb).to_reference()
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _standings(row: Mapping[str, Any], where: str) -> list[Any]:
    standings = row.get("standings") or []
    if not isinstance(standings, list) or not all(isinstance(entry, dict) for entry in standings):
        raise UserError(f"{where}: 'standings' must be a list of objects with rating, score and penalty.")
    return standings


def _standing(entry: Mapping[str, Any], where: str) -> list[float]:
    """Returns [rating, score, penalty] of a participant: standings have thousands."""
    where = f"{where}, standings"
    penalty = 0.0 if entry.get("penalty") is None else _number(entry, "penalty", where)
    return [_number(entry, "rating", where), _number(entry, "score", where), penalty]


def _number(row: Mapping[str, Any], key: str, where: str) -> float:
    value = first_of(row, (key,), where)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: {key!r} must be a number, not {str(value)[:40]!r}.")
    return float(value)


CODEFORCES = Benchmark(
    name="codeforces",
    title="Codeforces",
    hub="",
    files="",
    licence="of the contests' owners",
    read=_read,
    make_verifier=LiveCodeBenchVerifier,
    num_runs=NUM_ATTEMPTS,
    groups=("difficulty",),
    summary=elo_summary,
)
