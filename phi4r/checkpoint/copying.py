"""Copies weights from one store to another, piece by piece: read, hashed and written at the same time."""

import collections
import hashlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from phi4r.checkpoint.journal import Journal
from phi4r.checkpoint.manifest import update_digest
from phi4r.checkpoint.pieces import Piece
from phi4r.checkpoint.read_ahead import read_ahead
from phi4r.errors import UserError
from phi4r.metrics.progress import Progress

READ_AHEAD = 4  # pieces that are read before they are needed
WRITERS = 4  # pieces that are written at a time

Pieces = Mapping[str, tuple[Piece, ...]]


class Source(Protocol):
    """Where pieces come from: `SafetensorsFolder` or `ParamsFolder`."""

    def read_rows(self, piece: Piece) -> np.ndarray:
        """Returns a piece as rows of its tensor, contiguous."""


class Sink(Source, Protocol):
    """Where pieces go to: `SafetensorsWriter` or `ParamsFolder`."""

    def write_rows(self, piece: Piece, rows: np.ndarray) -> None:
        """Writes a piece; called by several threads."""

    def keep(self, name: str) -> None:
        """Is told of a tensor that is there already, from an earlier attempt."""


def find_written(
    sink: Sink, pieces: Pieces, dtypes: Mapping[str, np.dtype], *, journal: Journal, progress: "ByteProgress"
) -> frozenset[str]:
    """Returns the tensors that an earlier attempt has written: those that are in `sink` byte for byte, and tells it."""
    names = [name for name in pieces if name in journal.done]
    written = set()
    with ThreadPoolExecutor(WRITERS) as reader:
        found = read_ahead(reader, lambda name: _stored_digest(sink, pieces[name]), names, ahead=WRITERS)
        for name, digest in found:
            if digest == journal.done[name]:
                sink.keep(name)
                written.add(name)
                progress.add(sum(cut.num_elements * dtypes[cut.leaf.path].itemsize for cut in pieces[name]))
    return frozenset(written)


def _stored_digest(sink: Sink, cuts: tuple[Piece, ...]) -> str | None:
    """Returns the SHA-256 of a tensor in `sink`; None if it cannot be read."""
    digest = hashlib.sha256()
    try:
        for cut in cuts:
            update_digest(digest, sink.read_rows(cut))
    except UserError:
        return None
    return digest.hexdigest()


def copy_weights(
    source: Source,
    sink: Sink,
    pieces: Pieces,
    dtypes: Mapping[str, np.dtype],
    *,
    journal: Journal,
    progress: "ByteProgress",
    expected: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Copies tensors one after the other.

    Args:
      source: to read from.
      sink: to write to.
      pieces: of the tensors to copy, in the order in which to read them.
      dtypes: to write, by leaf path.
      journal: told of every tensor once it is written.
      progress: told of every piece.
      expected: SHA-256 of the tensors as they are read; None where there is nothing to compare with.

    Returns:
      SHA-256 of the tensors as they are written.

    Raises:
      UserError: at the first tensor that is not as expected.
    """
    digests: dict[str, str] = {}
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(WRITERS) as writer:
        read = read_ahead(reader, source.read_rows, (cut for cuts in pieces.values() for cut in cuts), ahead=READ_AHEAD)
        writes: collections.deque[tuple[Future, str | None]] = collections.deque()

        def finish(most: int) -> None:
            """Waits until at most so many writes are under way; a tensor is done when its last piece is."""
            while len(writes) > most:
                future, name = writes.popleft()
                future.result()
                if name is not None:
                    journal.add(name, digests[name])

        for name, cuts in pieces.items():
            before = after = hashlib.sha256()  # of what is read and of what is written: one where they are the same
            for cut in cuts:
                _, rows = next(read)
                out = rows.astype(dtypes[cut.leaf.path], copy=False)
                if out is not rows and before is after:
                    before = hashlib.sha256()
                update_digest(after, out)
                if expected is not None and before is not after:
                    update_digest(before, rows)
                last = cut is cuts[-1]
                if last:
                    if expected is not None and before.hexdigest() != expected[name]:
                        raise UserError(
                            f"tensor {name} is damaged: its checksum is not that of the manifest; convert or copy the "
                            "checkpoint again."
                        )
                    digests[name] = after.hexdigest()
                writes.append((writer.submit(sink.write_rows, cut, out), name if last else None))
                finish(WRITERS)
                progress.add(out.nbytes)
        finish(0)
    return digests


class ByteProgress:
    """A progress line that counts megabytes."""

    def __init__(self, progress: Progress):
        """Counts for `progress`, whose total is in MB."""
        self._progress, self._num_bytes = progress, 0

    def add(self, num_bytes: int) -> None:
        """Says that so many more bytes are done."""
        self._num_bytes += num_bytes
        self._progress.update(self._num_bytes // 10**6)
