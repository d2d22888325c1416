"""Items in files, one JSON object a line, that are read and written a line at a time."""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from phi4r.curation.item import Item
from phi4r.data.records import parse_row

_KEPT = "kept-{:05d}.jsonl"


class ShardWriter:
    """Writes items into files of equal size: kept-00000.jsonl, kept-00001.jsonl, ...

    Attributes:
      num_items: that were written.
    """

    def __init__(self, folder: str | os.PathLike, shard_size: int):
        """Writes nothing yet.

        Args:
          folder: that exists.
          shard_size: items in a file.
        """
        self.num_items = 0
        self._folder, self._shard_size = pathlib.Path(folder), shard_size
        self._file = None
        self._hash = hashlib.sha256()

    def write(self, item: Item) -> None:
        """Writes an item."""
        if self.num_items % self._shard_size == 0:
            self.close()
            self._file = (self._folder / _KEPT.format(self.num_items // self._shard_size)).open("wb")
        line = json_line(vars(item))  # to_dict would copy it
        self._file.write(line)
        self._hash.update(line)
        self.num_items += 1

    def close(self) -> None:
        """Closes the file that is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def digest(self) -> str:
        """SHA-256 of all that was written, however it lies in files."""
        return self._hash.hexdigest()


def kept_files(folder: str | os.PathLike) -> list[pathlib.Path]:
    """Returns the files of the items that a finished stage kept, in their order."""
    return sorted(pathlib.Path(folder).glob("kept-*.jsonl"))


def read_items(files: Iterable[str | os.PathLike]) -> Iterator[Item]:
    """Yields the items of files, in their order.

    Raises:
      UserError: for a line that is no item, naming it.
    """
    for path in files:
        with open(path, "rb") as file:
            yield from items_of_lines(file, os.fspath(path))


def items_of_lines(lines: Iterable[bytes], path: str) -> Iterator[Item]:
    """Yields the item of each line; `path` is for messages.

    Raises:
      UserError: for a line that is no item, naming it.
    """
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        yield Item.from_dict(parse_row(line, where=where), where=where)


def json_line(value: Any) -> bytes:
    """Returns a JSON value as a line of UTF-8; halves of characters, which some models write, are escaped."""
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value).encode() + b"\n"
