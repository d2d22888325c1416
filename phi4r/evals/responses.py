"""Responses on disk: the one file that every statistic of an evaluation is computed from.

One JSON object a line, in the order in which they were judged. A run that is killed in the middle of a line leaves a
piece of it; it is cut off when the file is opened again.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Hashable, Sequence

import numpy as np

from phi4r.errors import UserError
from phi4r.evals.scores import Scores, summarise_scores


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


class ResponseLog:
    """Appends responses to a file and knows those that are in it already."""

    def __init__(self, path: str | os.PathLike):
        """Opens `path`, made if it is missing, and cuts off a line that was not finished.

        Raises:
          UserError: if the file cannot be written, or holds something else.
        """
        self.path = pathlib.Path(path)
        try:
            self.path.touch()
            cut_unfinished_line(self.path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; choose another --workdir.") from error
        self.responses = read_responses(self.path)

    def append(self, responses: Sequence[Response]) -> None:
        """Writes `responses` so that they survive a crash of the machine."""
        lines = "".join(json.dumps(dataclasses.asdict(response)) + "\n" for response in responses)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self.responses.extend(responses)


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
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"there are no responses at {path}; run the evaluation first.")
    responses = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                break
            try:
                responses.append(Response(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"{path}:{number} is not a stored response; delete that line and run the evaluation again."
                ) from error
    return responses


def response_table(responses: Sequence[Response]) -> ResponseTable:
    """Arranges responses by item, in order of first appearance, and run.

    Right answers of an item are one class, whatever their form, since all are equivalent to the reference; wrong ones
    are told apart by their extracted text.

    Raises:
      UserError: if an item lacks a run that another has, or has one twice.
    """
    cells = {(response.id, response.run): response for response in responses}
    ids = tuple(dict.fromkeys(response.id for response in responses))
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
    return None if response.answer is None else (False, response.answer)


def cut_unfinished_line(path: pathlib.Path) -> None:
    """Cuts off the piece of a line that a killed program left at the end of a file."""
    with path.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
