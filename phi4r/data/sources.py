"""Where rows come from: files as random access sources that grain can read.

    jsonl:PATH                          one JSON object a line
    arrayrecord:PATH                    JSON objects in ArrayRecord files; PATH may be a glob
    tfds:NAME/SPLIT[@DATA_DIR]          a prepared TensorFlow dataset, read without TensorFlow

A source keeps an index in memory, never the rows.
"""

import glob
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from phi4r.data.records import Problem, Trace, as_row, atomic_path, parse_row
from phi4r.errors import UserError

KNOWN_SOURCES = "jsonl:PATH, arrayrecord:PATH (or a glob), tfds:NAME/SPLIT[@DATA_DIR]"
SCAN_BYTES = 1 << 24


class Source(Protocol):
    """Random access to rows; safe to read from several threads."""

    def __len__(self) -> int:
        """Returns the number of rows."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns row `index`, 0 <= index < len."""

    def where(self, index: int) -> str:
        """Returns what to call row `index` in a message, as "traces.jsonl:17"."""


class SequenceSource:
    """Rows that are in memory already, as a procedural generator makes them."""

    def __init__(self, rows: Sequence[Problem | Trace | Mapping[str, Any]], *, name: str = "memory"):
        """Keeps `rows`; `name` is for messages."""
        self._rows, self._name = rows, name
        _refuse_empty(self, name)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return as_row(self._rows[index])

    def where(self, index: int) -> str:
        """Returns "NAME row INDEX"."""
        return f"{self._name} row {index}"


class JsonlSource:
    """The lines of a JSONL file, found by an index of 24 bytes a line; empty lines are skipped."""

    def __init__(self, path: str | os.PathLike):
        """Scans the file once for line ends.

        Raises:
          UserError: for a missing or empty file.
        """
        self._path = pathlib.Path(path)
        if not self._path.is_file():
            raise UserError(f"jsonl: there is no file {path}; known sources: {KNOWN_SOURCES}.")
        starts, ends = _line_bounds(self._path)
        filled = np.flatnonzero(ends > starts)
        self._starts, self._ends, self._line_numbers = starts[filled], ends[filled], filled + 1
        _refuse_empty(self, str(path))

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with self._path.open("rb") as file:  # opened for each read: no handle is shared between threads
            file.seek(self._starts[index])
            line = file.read(self._ends[index] - self._starts[index])
        return parse_row(line, where=self.where(index))

    def where(self, index: int) -> str:
        """Returns "PATH:LINE", lines counted from 1."""
        return f"{self._path}:{self._line_numbers[index]}"


class ArrayRecordSource:
    """JSON objects in one or several ArrayRecord files, in the sorted order of their names."""

    def __init__(self, pattern: str | os.PathLike):
        """Opens the files.

        Raises:
          UserError: if no file matches, one is not an ArrayRecord file, or all are empty.
        """
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self._pattern = os.fspath(pattern)
        paths = sorted(glob.glob(self._pattern)) or [p for p in [self._pattern] if os.path.isfile(p)]
        if not paths:
            raise UserError(f"arrayrecord: no file matches {pattern}; known sources: {KNOWN_SOURCES}.")
        try:
            self._records = ArrayRecordDataSource(paths)
        except Exception as error:  # the reader raises what its C++ side finds, of several types
            raise UserError(f"arrayrecord: {pattern} is not readable as ArrayRecord ({_first_line(error)}).") from error
        _refuse_empty(self, self._pattern)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return parse_row(self._records[index], where=self.where(index))

    def where(self, index: int) -> str:
        """Returns "PATTERN record INDEX"."""
        return f"{self._pattern} record {index}"


def open_source(spec: str) -> Source:
    """Opens "jsonl:PATH", "arrayrecord:PATH" or "tfds:NAME/SPLIT[@DATA_DIR]".

    Raises:
      UserError: for an unknown kind, a missing path or an empty data set; the message lists what is known.
    """
    kind, _, rest = spec.partition(":")
    if rest and kind == "jsonl":
        return JsonlSource(rest)
    if rest and kind == "arrayrecord":
        return ArrayRecordSource(rest)
    if rest and kind == "tfds":
        from phi4r.data.tfds_source import TfdsSource

        return TfdsSource(rest)
    raise UserError(f"unknown data source {spec!r}; known sources: {KNOWN_SOURCES}.")


def write_arrayrecord(path: str | os.PathLike, rows: Iterable[Problem | Trace | Mapping[str, Any]]) -> None:
    """Writes rows as JSON into one ArrayRecord file that reads well at random; whole or not at all.

    Raises:
      UserError: if the folder cannot be written.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    with atomic_path(path) as partial:
        partial.touch()  # an unwritable folder is then an OSError of ours
        writer = ArrayRecordWriter(str(partial), "group_size:1")
        try:
            for row in rows:
                writer.write(json.dumps(as_row(row), ensure_ascii=False).encode())
        finally:
            writer.close()


def _line_bounds(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the byte offsets where lines start and end, [lines] int64 each; reads the file in pieces."""
    newlines, offset = [], 0
    with path.open("rb") as file:
        while chunk := file.read(SCAN_BYTES):
            newlines.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + offset)
            offset += len(chunk)
    ends = np.concatenate([*newlines, np.array([offset])]).astype(np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    return starts, ends


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _refuse_empty(source: Source, name: str) -> None:
    if len(source) == 0:
        raise UserError(f"{name} has no rows: the data set is empty; check the path, or write some rows first.")
