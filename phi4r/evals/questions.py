"""Prompts that a user wants answered, from a file."""

import dataclasses
import os
import pathlib

from phi4r.data.records import parse_row
from phi4r.errors import UserError
from phi4r.text.template import Message


@dataclasses.dataclass(frozen=True)
class Question:
    """A prompt.

    Attributes:
      number: its place in the file, from 0; random keys are drawn from it.
      prompt: what the user says.
      reference: the right answer, where it is known.
      id: of the row in the file, where it has one.
    """

    number: int
    prompt: str
    reference: str | None = None
    id: str | None = None

    @property
    def conversation(self) -> list[Message]:
        """The messages that ask it."""
        return [{"role": "user", "content": self.prompt}]


def read_questions(path: str | os.PathLike) -> list[Question]:
    """Reads a text file with one prompt a line, or a .jsonl file of {"prompt", "answer", "id"}.

    Empty lines are skipped. In a .jsonl file `answer` is the reference; it and `id` may be left out.

    Raises:
      UserError: for a file that cannot be read or has no prompts, or a row without one.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); give a UTF-8 text file with one prompt a line.") from error
    # Not splitlines: it would also cut at characters that JSON and people use within a line.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise UserError(f"{path} has no prompts; write one a line.")
    if path.suffix == ".jsonl":
        return [_question(i, line, where=f"{path}:{number}") for i, (number, line) in enumerate(lines)]
    return [Question(i, line.rstrip("\r")) for i, (_, line) in enumerate(lines)]


def _question(number: int, line: str, *, where: str) -> Question:
    row = parse_row(line, where=where)
    values = [None if row.get(name) is None else str(row[name]) for name in ("prompt", "answer", "id")]
    if not (values[0] or "").strip():
        raise UserError(f"{where} has no 'prompt'; give each row one, and leave empty ones out.")
    return Question(number, *values)
