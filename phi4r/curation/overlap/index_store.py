"""Keeps an NgramIndex: built once, shared by the processes of a machine, and at hand in each of them."""

import contextlib
import glob
import hashlib
import json
import pathlib
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import Any

from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.errors import UserError

_LAYOUT = 1  # raised whenever words, hashes or arrays change
_at_hand: dict[tuple[str, str], NgramIndex] = {}
_lock = threading.Lock()


def stored_index(folder: str, key: Mapping[str, Any], build: Callable[[], NgramIndex]) -> NgramIndex:
    """Returns the index that `key` describes.

    The first call of a process reads it from `folder`; where it is not there, or `key` is another one, it is built and
    written. Processes that build it at once do the same work, and one of them keeps it.

    Args:
      folder: that holds indexes, one folder each; empty for none, then every process builds its own.
      key: JSON values that the index is a function of.
      build: makes the index.

    Raises:
      UserError: as `build`, or if the folder cannot be read or written.
    """
    digest = hashlib.sha256(json.dumps([_LAYOUT, dict(key)], sort_keys=True).encode()).hexdigest()[:16]
    with _lock:
        place = (str(folder), digest)
        if place not in _at_hand:
            _at_hand[place] = _read_or_build(pathlib.Path(folder) / f"index-{digest}", build) if folder else build()
        return _at_hand[place]


def file_states(place: str) -> list[list[Any]]:
    """Returns JSON values that change when a local file of a place does: names, sizes and times of change.

    Args:
      place: as `phi4r.data.tables` reads it; nothing is told of what does not lie on this machine.
    """
    path = pathlib.Path(place).expanduser()
    if not place or path.is_file():
        files = [path] if place else []
    else:
        files = sorted(path.glob("*") if path.is_dir() else map(pathlib.Path, glob.glob(str(path))))
    return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def _read_or_build(path: pathlib.Path, build: Callable[[], NgramIndex]) -> NgramIndex:
    if not path.is_dir():
        index = build()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = pathlib.Path(tempfile.mkdtemp(prefix="partial-", dir=path.parent))
        except OSError as error:
            raise UserError(f"cannot write an index into {path.parent}: {error.strerror or error}.") from error
        try:
            index.save(partial)
            with contextlib.suppress(OSError):  # another process was faster
                partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return NgramIndex.load(path)
