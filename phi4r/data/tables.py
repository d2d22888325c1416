"""Rows of published data sets, in the files that they come in.

    FILE                        .jsonl, .jsonl.gz, .json, .csv or .parquet
    FOLDER, or a pattern        all files of these kinds that lie in it, in the order of their names
    tfds:NAME/SPLIT[@DATA_DIR]  a prepared TensorFlow dataset

A JSON file is a list of rows, an object of lists of rows (`{"train": [...], "test": [...]}`) or an object of columns.
What cannot be read as a row is kept as a message with its place; a file that is damaged as a whole stops the reading.
"""

import csv
import datetime
import glob
import gzip
import json
import pathlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from phi4r.data.records import parse_row
from phi4r.data.sources import open_source
from phi4r.errors import UserError

_PARQUET_ROWS = 64  # decoded at a time: rows of code benchmarks hold megabytes of tests
_MAX_CSV_FIELD = 1 << 27  # bytes

Row = dict[str, Any]
Located = tuple[str, Row | UserError]  # where a row lies, and the row or why it is none


class Rows:
    """The rows of a place, read anew by each iteration.

    Attributes:
      place: as it was given.
      malformed: a message for each row that could not be read, with its file and line, as far as the last iteration
        came.
    """

    def __init__(self, place: str):
        """Finds the files.

        Raises:
          UserError: for a place that does not exist, or holds no file of a known kind.
        """
        self.place = place
        self.malformed: list[str] = []
        self._files = [] if place.startswith("tfds:") else _files(place)

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        """Yields (where, row): "FILE:LINE", or "FILE row N" in files without lines, and the row.

        Raises:
          UserError: for a file that is damaged as a whole, naming it.
        """
        self.malformed = []
        for where, row in self._located():
            if isinstance(row, UserError):
                self.malformed.append(str(row))
            else:
                yield where, row

    def _located(self) -> Iterator[Located]:
        if self.place.startswith("tfds:"):
            source = open_source(self.place)
            yield from ((source.where(i), source[i]) for i in range(len(source)))
        for file in self._files:
            yield from _READERS[_kind(file)](file)


def read_rows(place: str) -> Rows:
    """Returns the rows of a file, a folder, a pattern of files or a `tfds:` data set (see the module's docstring).

    Raises:
      UserError: for a place that does not exist, or holds no file of a known kind.
    """
    return Rows(place)


def _files(place: str) -> list[pathlib.Path]:
    """Returns the files of a place, in the order of their names."""
    path = pathlib.Path(place).expanduser()
    if path.is_file():
        if _kind(path) is None:
            raise UserError(f"{place} is of no kind that is read here; give one of {', '.join(_READERS)}.")
        return [path]
    if path.is_dir():
        candidates = path.iterdir()
    elif glob.has_magic(str(path)):
        candidates = map(pathlib.Path, glob.iglob(str(path)))
    else:
        raise UserError(f"there is no file or folder {place}; check the path.")
    files = sorted(file for file in candidates if file.is_file() and _kind(file) is not None)
    if not files:
        raise UserError(f"{place} holds no data; put files of {', '.join(_READERS)} there{_below(path)}.")
    return files


def _below(folder: pathlib.Path) -> str:
    """Returns the hint that names sub-folders with data, if any has some."""
    found = sorted({file.parent.name for file in folder.glob("*/*") if file.is_file() and _kind(file)})
    return f", or name a folder in it: {', '.join(found)}" if found else ""


def _kind(path: pathlib.Path) -> str | None:
    return next((kind for kind in _READERS if path.name.lower().endswith(kind)), None)


def _jsonl_rows(path: pathlib.Path) -> Iterator[Located]:
    opened: Callable = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parsed(line, f"{path}:{number}")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path} is damaged ({error}); get the file again.") from error


def _parsed(line: bytes, where: str) -> Located:
    try:
        return where, parse_row(line, where=where)
    except UserError as error:
        return where, error
    except RecursionError:
        return where, UserError(f"{where} is nested too deeply; write one flat JSON object on each line.")


def _json_rows(path: pathlib.Path) -> Iterator[Located]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); for one object a line, name it .jsonl.") from error
    if isinstance(content, Mapping):
        content = _rows_of_object(content, path)
    if not isinstance(content, list):
        raise UserError(f"{path} must be a list of rows, or an object of lists; not one {type(content).__name__}.")
    for number, row in enumerate(content, start=1):
        where = f"{path} row {number}"
        is_row = isinstance(row, dict)
        yield where, row if is_row else UserError(f"{where} must be an object with keys, not {type(row).__name__}.")


def _rows_of_object(content: Mapping[str, Any], path: pathlib.Path) -> list[Any]:
    """Returns the rows of an object of lists: those of all lists of objects, or the rows of a table of columns."""
    columns = list(content.values())
    if not columns or not all(isinstance(column, list) for column in columns):
        raise UserError(f"{path} is an object of other things than lists; write a list of rows.")
    if all(isinstance(row, dict) for column in columns for row in column):
        return [row for column in columns for row in column]
    if len(set(map(len, columns))) > 1:
        raise UserError(f"{path} has columns of different lengths; write a list of rows.")
    return [dict(zip(content, values, strict=True)) for values in zip(*columns, strict=True)]


def _csv_rows(path: pathlib.Path) -> Iterator[Located]:
    csv.field_size_limit(_MAX_CSV_FIELD)  # the module's own limit is 128 KiB
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                where = f"{path}:{reader.line_num}"
                fits = None not in row and None not in row.values()
                header = f"{len(reader.fieldnames or [])} columns"
                yield where, row if fits else UserError(f"{where} has not the {header} of the first line.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not readable as CSV in UTF-8 ({error}); write it as .jsonl.") from error


def _parquet_rows(path: pathlib.Path) -> Iterator[Located]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", {key: _json_value(value) for key, value in row.items()}
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not readable as Parquet ({reason}); get the file again.") from error


def _json_value(value: Any) -> Any:
    """Returns dates as text, as JSON files have them."""
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value


_READERS: Mapping[str, Callable[[pathlib.Path], Iterator[Located]]] = {
    ".jsonl": _jsonl_rows,
    ".jsonl.gz": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
