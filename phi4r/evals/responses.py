"""Responses on disk: the one file that every statistic of an evaluation is computed from.

One JSON object a line, in the order in which they were judged (`phi4r.evals.record_log`).
"""

import dataclasses
import functools
import os
from collections.abc import Hashable, Sequence

import numpy as np

from phi4r.errors import UserError
from phi4r.evals.record_log import read_records
from phi4r.evals.scores import Scores, summarise_scores
from phi4r.verifiers.algebra.exact_numbers import exact_number
from phi4r.verifiers.algebra.normal_form import normal_form


@dataclasses.dataclass(frozen=True)
class Response:
    """One judged answer.

    Attributes:
      id: of the problem.
      run: number of the run, from 0.
      text: what the model wrote.
      num_tokens: its length.
      finish_reason: "stop", or "length" for a truncated one.
      correct: the verdict.
      score: the verifier's score.
      answer: what the verifier extracted, or None.
      status: how verification went: "ok", "no_answer", "timeout" or "error".
      parts: what else the verifier measured, by name.
    """

    id: str
    run: int
    text: str
    num_tokens: int
    finish_reason: str
    correct: bool
    score: float
    answer: str | None
    status: str
    parts: dict[str, float] = dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True)
class ResponseTable:
    """Responses as arrays over N items and R runs."""

    ids: tuple[str, ...]
    correct: np.ndarray  # [N R] bool
    num_tokens: np.ndarray  # [N R] int64
    truncated: np.ndarray  # [N R] bool
    classes: tuple[tuple[Hashable | None, ...], ...]  # N rows of R labels, equal where answers are equivalent

    def scores(self) -> Scores:
        """Returns the statistics of the table."""
        return summarise_scores(self.correct, self.num_tokens, self.truncated, self.classes)


def read_responses(path: str | os.PathLike) -> list[Response]:
    """Reads all responses of a file; an unfinished last line is left out.

    Raises:
      UserError: for a missing file, or a line that is no response.
    """
    return read_records(path, Response)


def response_table(responses: Sequence[Response]) -> ResponseTable:
    r"""Arranges responses by item, in the order of ids, and run: tables over the same items have the same rows.

    Right answers of an item are one class, whatever their form, since all are equivalent to the reference. Wrong ones
    are one where their exact numbers or their normal forms are equal (`1/2`, `0.5` and `\frac12`; `x+1` and `x + 1`);
    the algebra that shows `x+1` and `1+x` equal is not done, as it has no bound on its time.

    Raises:
      UserError: if an item lacks a run that another has, or has one twice.
    """
    cells = {(response.id, response.run): response for response in responses}
    ids = tuple(sorted({response.id for response in responses}))
    num_runs = 1 + max((response.run for response in responses), default=-1)
    missing = len(ids) * num_runs - len(cells)
    if missing or len(cells) != len(responses):
        what = f"{missing} responses are missing" if missing else "some responses are there twice"
        raise UserError(f"{what} ({len(ids)} items x {num_runs} runs); run the evaluation to its end.")
    rows = [[cells[i, run] for run in range(num_runs)] for i in ids]
    return ResponseTable(
        ids=ids,
        correct=np.array([[cell.correct for cell in row] for row in rows], bool),
        num_tokens=np.array([[cell.num_tokens for cell in row] for row in rows], np.int64),
        truncated=np.array([[cell.finish_reason == "length" for cell in row] for row in rows], bool),
        classes=tuple(tuple(_answer_class(cell) for cell in row) for row in rows),
    )


def summarise(path: str | os.PathLike) -> Scores:
    """Returns the statistics of a file of responses, from nothing but the file.

    Raises:
      UserError: if the file is missing, damaged or not complete.
    """
    return response_table(read_responses(path)).scores()


def _answer_class(response: Response) -> tuple[bool, str | None] | None:
    if response.correct:
        return True, None
    return None if response.answer is None else (False, _wrong_class(response.answer))


@functools.lru_cache(1 << 16)
def _wrong_class(answer: str) -> str:
    """Returns the same text for answers that are equal as exact numbers, or in normal form."""
    normal = normal_form(answer)
    number = exact_number(normal)
    if number is None:
        return normal or answer
    return str(number.value / 100 if number.percent else number.value)
