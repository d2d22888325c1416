"""Answers to many prompts as JSON lines, which outlive an interruption.

OUTPUT.partial   the settings, then one line for every prompt that is answered, as they finish
OUTPUT           the same lines in the order of the prompts, when all are there; then the partial file goes away
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from phi4r.data.records import parse_row, write_jsonl
from phi4r.errors import UserError
from phi4r.evals.record_log import cut_unfinished_line
from phi4r.settings import first_difference


class AnswerFile:
    """Collects one row for every prompt; a row has the `number` of its prompt.

    Attributes:
      path: of the finished file.
      partial: of the growing one.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens nothing yet.

        Raises:
          UserError: if the finished file is there.
        """
        self.path = pathlib.Path(path)
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self._rows: dict[int, dict[str, Any]] = {}
        if self.path.exists():
            raise UserError(f"{self.path} is there already; choose another --output, or delete it.")

    def begin(self, settings: Mapping[str, Any]) -> set[int]:
        """Starts the file, or goes on with the one that an interrupted run has left.

        Args:
          settings: JSON values: all that the answers depend on.

        Returns:
          The numbers of the prompts that are answered already.

        Raises:
          UserError: if the file cannot be written, or holds answers under other settings.
        """
        settings = json.loads(json.dumps(settings))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.partial.touch()
            cut_unfinished_line(self.partial)
            lines = self.partial.read_bytes().splitlines()
            if not lines:
                self._write({"settings": settings})
                return set()
        except OSError as error:
            raise UserError(f"cannot write {self.partial}: {error.strerror}; choose another --output.") from error
        header, *rows = (parse_row(line, where=f"{self.partial}:{i}") for i, line in enumerate(lines, start=1))
        if "settings" not in header or not all("number" in row for row in rows):
            raise UserError(f"{self.partial} is not what an interrupted run leaves; choose another --output.")
        difference = first_difference(header["settings"], settings)
        if difference is not None:
            name, before, now = difference
            raise UserError(
                f"{self.partial} holds answers under other settings: {name} was {before!r} and is now {now!r}; "
                "choose another --output, or delete it."
            )
        self._rows = {row["number"]: row for row in rows}
        return set(self._rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Writes the row of a prompt that is answered."""
        self._write(row)
        self._rows[row["number"]] = dict(row)

    def finish(self) -> None:
        """Puts the rows in order into the finished file."""
        write_jsonl(self.path, [self._rows[number] for number in sorted(self._rows)])
        self.partial.unlink()

    def _write(self, row: Mapping[str, Any]) -> None:
        with self.partial.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
