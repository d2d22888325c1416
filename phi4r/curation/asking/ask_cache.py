"""Answers of models on disk, found by what was asked: no thread or process of a machine asks for one a second time.

    FOLDER/answers.sqlite   a row an answer: (hash of what was asked, number of the sample) -> the answer, compressed
    FOLDER/asking.lock      empty; a process locks one byte of it for each answer that it is waiting for

An answer is on the disk, or it is not: SQLite's log makes a write whole, and the lock of a process that was killed goes
with it. The log needs memory that processes share, so they run on one machine; each machine of a cluster takes a folder
of its own.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import sqlite3
import threading
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from phi4r.errors import UserError
from phi4r.sampling.generator import Completion

ANSWERS_FILE, LOCK_FILE = "answers.sqlite", "asking.lock"
_PATIENCE_S = 120.0  # that a writer waits for others
_LEVEL = 6  # of compression
_SCHEMA = """CREATE TABLE IF NOT EXISTS answers (
    asked BLOB NOT NULL, sample INTEGER NOT NULL, text BLOB NOT NULL, num_tokens INTEGER NOT NULL,
    finish_reason TEXT NOT NULL, PRIMARY KEY (asked, sample))"""


class CacheError(UserError):
    """The cache cannot be read or written."""


class Key(NamedTuple):
    """Names an answer.

    Attributes:
      asked: hash of the conversation and of all that decides an answer to it.
      sample: number of the answer among those to the same question.
    """

    asked: bytes
    sample: int


class AnswerCache:
    """The answers in a folder; `open_answers` opens it once in a process, whose threads share it."""

    def __init__(self, folder: str | os.PathLike):
        """Opens `folder`, which is made if it is missing.

        Raises:
          CacheError: if it cannot be written, or holds something else.
        """
        self.folder = pathlib.Path(folder)
        self._guard = threading.RLock()
        self._claimed: set[Key] = set()
        self._connect()

    def __len__(self) -> int:
        """Returns how many answers there are."""
        with self._database() as database:
            return database.execute("SELECT COUNT(*) FROM answers").fetchone()[0]

    def get(self, keys: Collection[Key]) -> dict[Key, Completion]:
        """Returns those of the answers that are there."""
        samples: dict[bytes, set[int]] = {}
        for key in keys:
            samples.setdefault(key.asked, set()).add(key.sample)
        found = {}
        with self._database() as database:
            for asked, wanted in samples.items():
                rows = database.execute(
                    "SELECT sample, text, num_tokens, finish_reason FROM answers WHERE asked = ?", (asked,)
                )
                for sample, text, num_tokens, finish_reason in rows:
                    if sample in wanted:
                        found[Key(asked, sample)] = Completion(_unpacked(text), num_tokens, finish_reason)
        return found

    def put(self, answers: Mapping[Key, Completion]) -> None:
        """Writes answers, all or none, so that they outlive a crash of the machine; the first answer to a key stays."""
        rows = [
            (*key, _packed(answer.text), answer.num_tokens, answer.finish_reason) for key, answer in answers.items()
        ]
        if not rows:
            return
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                database.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", rows)
                database.execute("COMMIT")
            except BaseException:
                database.execute("ROLLBACK")
                raise

    def claim(self, keys: Sequence[Key]) -> list[Key]:
        """Returns those of the keys that nobody was asking for; now this thread is, until it releases them.

        It never waits, so nobody waits for somebody who waits for him.
        """
        claimed = []
        with self._database():
            for key in keys:
                if key in self._claimed:
                    continue
                try:
                    fcntl.lockf(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(key))
                except OSError:  # another process has it
                    continue
                self._claimed.add(key)
                claimed.append(key)
        return claimed

    def release(self, keys: Sequence[Key]) -> None:
        """Gives back what was claimed."""
        with self._guard:
            for key in keys:
                fcntl.lockf(self._lock_file, fcntl.LOCK_UN, 1, _place(key))
                self._claimed.discard(key)

    def _connect(self) -> None:
        """Opens both files for this process; of several that start at once one makes the database."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = (self.folder / LOCK_FILE).open("a")
            fcntl.lockf(self._lock_file, fcntl.LOCK_EX, 1, 0)
        except OSError as error:
            raise CacheError(f"cannot write {self.folder}: {error.strerror}; choose another folder.") from error
        try:
            self._connection = sqlite3.connect(
                self.folder / ANSWERS_FILE, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise self._error(error) from error
        finally:
            fcntl.lockf(self._lock_file, fcntl.LOCK_UN, 1, 0)
        self._process = os.getpid()

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """Gives the connection to one thread at a time; a forked process, which may not use its parent's, gets one."""
        with self._guard:
            if self._process != os.getpid():
                self._claimed.clear()
                self._connect()
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise self._error(error) from error

    def _error(self, error: sqlite3.Error) -> CacheError:
        if isinstance(error, sqlite3.OperationalError):
            return CacheError(
                f"cannot write {self.folder / ANSWERS_FILE}: {error}; make room or choose another folder."
            )
        return CacheError(f"{self.folder / ANSWERS_FILE} is damaged ({error}); delete it to ask everything again.")


_opened: dict[pathlib.Path, AnswerCache] = {}
_opening = threading.Lock()


def open_answers(folder: str | os.PathLike) -> AnswerCache:
    """Returns the cache of a folder, the same one to all threads of a process.

    The locks of a process are lost when it closes any file object of theirs, so there is one for each folder.

    Raises:
      CacheError: as AnswerCache.
    """
    with _opening:
        path = pathlib.Path(folder).absolute()
        if path not in _opened:
            _opened[path] = AnswerCache(path)
        return _opened[path]


def _place(key: Key) -> int:
    """Returns which byte of the lock file stands for a key; the first one stands for the making of the database."""
    digest = hashlib.sha256(key.asked + str(key.sample).encode()).digest()
    return 1 + int.from_bytes(digest[:8], "big") // 4


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode(errors="surrogatepass"), _LEVEL)


def _unpacked(data: bytes) -> str:
    return zlib.decompress(data).decode(errors="surrogatepass")
