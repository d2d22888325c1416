"""JSON files of an evaluation as they may be: cut in the middle of a line, damaged, or written by another version."""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from phi4r.evals.responses import Response

_TYPES = {
    "id": str,
    "run": int,
    "text": str,
    "num_tokens": int,
    "finish_reason": str,
    "correct": bool,
    "answer": str | None,
    "status": str,
}


def read_object(path: pathlib.Path, where: str, notes: list[str]) -> dict[str, Any]:
    """Reads a JSON object; an empty one, and a note, for a file that is none.

    Args:
      path: of the file.
      where: begins the note.
      notes: gets a line about what could not be read.
    """
    try:
        value = _parse(path.read_bytes())
    except OSError as error:
        notes.append(f"{where}: cannot read {path} ({error.strerror}).")
        return {}
    if value is None:
        notes.append(f"{where}: {path} is damaged; the report goes on without it.")
    return value or {}


def read_rows(path: pathlib.Path, where: str, notes: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (number of the line from 1, object) of a file with one JSON object on each line.

    A last line that was not finished is passed over in silence, as a run that was killed leaves one. Other lines that
    are no objects are passed over with a note, whose arguments are those of `read_object`.
    """
    num_damaged, first = 0, 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                row = _parse(line)
                if row is not None:
                    yield number, row
                elif line.strip():
                    num_damaged, first = num_damaged + 1, first or number
    except OSError as error:
        notes.append(f"{where}: cannot read {path} ({error.strerror}).")
    if num_damaged:
        notes.append(f"{where}: {num_damaged} damaged lines of {path} are left out, the first is line {first}.")


def stored_response(row: Mapping[str, Any]) -> Response | None:
    """Returns the response of a row, or None if it is not one."""
    score, parts = row.get("score"), row.get("parts", {})
    well_formed = (
        all([name in row and isinstance(row[name], kind) for name, kind in _TYPES.items()])
        and row["run"] >= 0
        and isinstance(score, int | float)
        and math.isfinite(score)
        and isinstance(parts, dict)
    )
    return Response(**{name: row[name] for name in _TYPES}, score=score, parts=parts) if well_formed else None


def _parse(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
