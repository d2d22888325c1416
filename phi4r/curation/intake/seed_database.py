"""The seeds database: every seed that was ever imported, in a SQLite file that can be asked anything.

    imports   version, date, num_read, num_new, num_changed, settings (JSON), code
    seeds     id, version that brought it, source, licence, domain, prompt, answer, thought, solution, meta (JSON)

An import adds what is new or has changed, and is a version if anything was. Nothing is ever deleted: version n of the
seeds is the newest row of each id that imports 1 to n brought. As in

    sqlite3 seeds.sqlite "SELECT source, version, COUNT(*), AVG(LENGTH(prompt)) FROM seeds GROUP BY source, version"
"""

import contextlib
import json
import os
import pathlib
import sqlite3
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import phi4r
from phi4r.curation.item import Item
from phi4r.errors import UserError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS imports (
    version INTEGER PRIMARY KEY, date TEXT NOT NULL, num_read INTEGER NOT NULL, num_new INTEGER NOT NULL,
    num_changed INTEGER NOT NULL, settings TEXT NOT NULL, code TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS seeds (
    id TEXT NOT NULL, version INTEGER NOT NULL REFERENCES imports, source TEXT NOT NULL, licence TEXT NOT NULL,
    domain TEXT NOT NULL, prompt TEXT NOT NULL, answer TEXT NOT NULL, thought TEXT NOT NULL, solution TEXT NOT NULL,
    meta TEXT NOT NULL, PRIMARY KEY (id, version));
CREATE INDEX IF NOT EXISTS seeds_of_source ON seeds (source, version);
"""
_TEXTS = ("id", "source", "licence", "domain", "prompt", "answer", "thought", "solution")
_COLUMNS = ", ".join((*_TEXTS, "meta"))
_PLACES = ", ".join("?" * (len(_TEXTS) + 2))  # with meta and version

Standing = Literal["new", "changed", "known", "repeated", "conflict"]


class SeedImport:
    """An import that is under way: all of it is written at its end, or nothing.

    Attributes:
      num_read: seeds that were offered.
      num_new: those whose id the database did not have.
      num_changed: those that it had with other texts.
    """

    def __init__(self, path: pathlib.Path, connection: sqlite3.Connection, last_version: int):
        self._path, self._connection, self._last = path, connection, last_version
        self.num_read = self.num_new = self.num_changed = 0

    @property
    def version(self) -> int:
        """The number of this import, or of the last one if it has brought nothing."""
        return self._last + bool(self.num_new + self.num_changed)

    def add(self, item: Item) -> Standing:
        """Adds a seed.

        Returns:
          "new"; "changed" since an earlier import; "known" from one; or, of an id that this import has already had,
          "repeated", or "conflict" for other texts, which are not added.

        Raises:
          UserError: if the file cannot be written.
        """
        self.num_read += 1
        row = (*(getattr(item, name) for name in _TEXTS), json.dumps(item.meta, sort_keys=True))
        with told(self._path):
            again = not self._connection.execute("INSERT OR IGNORE INTO seen VALUES (?)", (item.id,)).rowcount
            stored = self._connection.execute(
                f"SELECT {_COLUMNS} FROM seeds WHERE id = ? ORDER BY version DESC LIMIT 1", (item.id,)
            ).fetchone()
            if stored == row or again:
                return ("repeated" if stored == row else "conflict") if again else "known"
            self._connection.execute(
                f"INSERT INTO seeds ({_COLUMNS}, version) VALUES ({_PLACES})", (*row, self._last + 1)
            )
        if stored is None:
            self.num_new += 1
            return "new"
        self.num_changed += 1
        return "changed"


class SeedDatabase:
    """A database in a file."""

    def __init__(self, path: str | os.PathLike):
        """Opens the file, which is made if it is missing.

        Raises:
          UserError: if it cannot be written, or holds something else.
        """
        self.path = pathlib.Path(path).expanduser()
        with told(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, isolation_level=None)
            self._connection.executescript(_SCHEMA)
            self._connection.execute("CREATE TEMPORARY TABLE seen (id TEXT PRIMARY KEY)")

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    @contextlib.contextmanager
    def importing(self, settings: Mapping[str, Any]) -> Iterator[SeedImport]:
        """Gives an import, which is written if the block ends well.

        Args:
          settings: what the seeds come from, as JSON values.

        Raises:
          UserError: if the file cannot be written, or another program is importing.
        """
        with told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM seen")
        try:
            started = SeedImport(self.path, self._connection, self.last_version)
            yield started
            with told(self.path):
                self._finish(started, settings)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise

    def _finish(self, started: SeedImport, settings: Mapping[str, Any]) -> None:
        """Writes an import down, if it brought something."""
        if started.num_new or started.num_changed:
            row = {
                "version": started.version,
                "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "num_read": started.num_read,
                "num_new": started.num_new,
                "num_changed": started.num_changed,
                "settings": json.dumps(settings, sort_keys=True),
                "code": phi4r.__version__,
            }
            places = ", ".join(f":{name}" for name in row)
            self._connection.execute(f"INSERT INTO imports ({', '.join(row)}) VALUES ({places})", row)
        self._connection.execute("COMMIT")

    @property
    def last_version(self) -> int:
        """Number of the last import; 0 if there was none."""
        with told(self.path):
            return self._connection.execute("SELECT COALESCE(MAX(version), 0) FROM imports").fetchone()[0]

    def imports(self) -> list[dict[str, Any]]:
        """Returns all imports, the first one first, with their settings as JSON values."""
        with told(self.path):
            cursor = self._connection.execute("SELECT * FROM imports ORDER BY version")
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return [{**row, "settings": json.loads(row["settings"])} for row in rows]

    def read(self, version: int | None = None) -> Iterator[tuple[int, Item]]:
        """Yields the seeds of a version, in the order of their ids, each with the first version that had its id.

        Args:
          version: the last one by default.

        Raises:
          UserError: for a version that there is not.
        """
        last = self.last_version
        version = last if version is None else version
        if not 0 <= version <= last:
            raise UserError(f"{self.path} has no version {version}; the last one is {last}.")
        with told(self.path):
            rows = self._connection.execute(
                f"SELECT (SELECT MIN(version) FROM seeds AS every WHERE every.id = seed.id), {_COLUMNS} "
                "FROM seeds AS seed "
                "WHERE version = (SELECT MAX(version) FROM seeds AS newer WHERE newer.id = seed.id AND version <= ?) "
                "ORDER BY id",
                (version,),
            )
            for first, *texts, meta in rows:
                yield first, Item(**dict(zip(_TEXTS, texts, strict=True)), meta=json.loads(meta))


@contextlib.contextmanager
def told(where: Any) -> Iterator[None]:
    """Turns what SQLite raises into one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise UserError(
            f"cannot write the seeds database {where}: {error}; make room or choose another file."
        ) from error
    except sqlite3.DatabaseError as error:
        raise UserError(f"{where} is no seeds database ({error}); choose another file.") from error
    except OSError as error:
        raise UserError(f"cannot write the seeds database {where}: {error.strerror}; choose another file.") from error
