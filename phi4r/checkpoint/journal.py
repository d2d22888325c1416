"""What an interrupted conversion has done, so that the next attempt goes on from there.

The journal lies in the unfinished folder. Its first line says what is being converted, every other one names a tensor
that is written, with the SHA-256 of its bytes. It need not reach the disk in order: whoever goes on reads every tensor
back and compares, and writes again what is not there.
"""

import fcntl
import hashlib
import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from phi4r.errors import UserError

JOURNAL_FILE = ".conversion.jsonl"


def conversion_key(source: pathlib.Path, options: Mapping[str, Any]) -> str:
    """Returns what identifies a conversion: the options, and path, sizes and times of all files of the source."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    stats = [(str(path.relative_to(source)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    text = json.dumps([str(source.absolute()), stats, dict(options)])
    return hashlib.sha256(text.encode()).hexdigest()


def is_unfinished(folder: pathlib.Path, key: str | None) -> bool:
    """Returns whether `folder` was left by a conversion with this key (with None: never).

    Raises:
      UserError: if another process is writing it now.
    """
    path = folder / JOURNAL_FILE
    if not path.is_file():
        return False
    with path.open("rb") as file:
        _lock(file, folder)
        lines = _whole_lines(file.read())
    return bool(lines) and json.loads(lines[0]) == {"key": key}


class Journal:
    """The journal of one folder, locked while it is open; use it as a context manager.

    Attributes:
      done: name -> SHA-256 of the tensors that an earlier attempt has written.
    """

    def __init__(self, folder: pathlib.Path, key: str):
        """Opens or begins the journal.

        Raises:
          UserError: if another process has it open.
        """
        self._path = folder / JOURNAL_FILE
        self._file = self._path.open("a+b")
        _lock(self._file, folder)
        self._file.seek(0)
        lines = _whole_lines(self._file.read())
        self._file.truncate(sum(map(len, lines)))  # a torn last line goes
        if not lines:
            self._write({"key": key})
        entries = [json.loads(line) for line in lines[1:]]
        self.done: dict[str, str] = {entry["name"]: entry["sha256"] for entry in entries}

    def add(self, name: str, digest: str) -> None:
        """Notes that the tensor `name` is written."""
        self._write({"name": name, "sha256": digest})

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: Any, *exc: Any) -> None:
        if kind is None:
            self._path.unlink()
        self._file.close()

    def _write(self, line: Mapping[str, str]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()


def _whole_lines(data: bytes) -> list[bytes]:
    """Returns the lines before the first one that is torn: without a newline, or zeros that a crash left."""
    lines = data.splitlines(keepends=True)
    return list(itertools.takewhile(lambda line: line.startswith(b"{") and line.endswith(b"}\n"), lines))


def _lock(file: Any, folder: pathlib.Path) -> None:
    """Locks the file until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(f"{folder} is being written by another conversion; wait for it or stop it.") from None
