"""Records on disk, one JSON object a line, in a file that only grows and outlives an interruption.

A program that is killed in the middle of a line leaves a piece of it; it is cut off when the file is opened again.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Generic, TypeVar

from phi4r.errors import UserError

Record = TypeVar("Record")


class RecordLog(Generic[Record]):
    """Appends records (flat dataclasses) to a file and knows those that are in it already.

    Attributes:
      path: of the file.
      records: in the order of the file.
    """

    def __init__(self, path: str | os.PathLike, record_type: type[Record]):
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
        self.records = read_records(self.path, record_type)

    def append(self, records: Sequence[Record]) -> None:
        """Writes `records` so that they survive a crash of the machine."""
        lines = "".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in records)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self.records.extend(records)


def read_records(path: str | os.PathLike, record_type: type[Record]) -> list[Record]:
    """Reads all records of a file; an unfinished last line is left out.

    Raises:
      UserError: for a missing file, or a line that is no record.
    """
    path = pathlib.Path(path)
    what = record_type.__name__.lower()
    if not path.is_file():
        raise UserError(f"there are no {what}s at {path}; run the evaluation first.")
    records = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith("\n"):
                break
            try:
                records.append(record_type(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise UserError(
                    f"{path}:{number} is not a stored {what}; delete that line and run the evaluation again."
                ) from error
    return records


def cut_unfinished_line(path: pathlib.Path) -> None:
    """Cuts off the piece of a line that a killed program left at the end of a file."""
    with path.open("rb+") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
