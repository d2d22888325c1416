"""Writes data sets that TFDS can read, row by row and without TensorFlow: ArrayRecord shards and their description.

Nothing is held but the shards that are open, so a set may be larger than memory. Rows keep the order in which they
come, but for one thing: those of a group stand together, whenever they come, so that a slice of the split
("train[120:480]") reads a group alone.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from phi4r.data.records import Problem, Trace, as_row
from phi4r.errors import UserError

SHARD_BYTES = 256 << 20
_DIGEST_MODULUS = 1 << 256


@dataclasses.dataclass(frozen=True)
class WrittenSplit:
    """What a split consists of.

    Attributes:
      num_rows: how many rows.
      num_bytes: of its files.
      slices: group -> (first row, one past its last); groups stand in the order of their names.
      digest: of its rows, whatever their order: two runs that wrote the same rows have the same one.
    """

    num_rows: int
    num_bytes: int
    slices: dict[str, tuple[int, int]]
    digest: str


class TfdsWriter:
    """One data set, whole or not at all: it appears under its name when the `with` block ends well.

    A set of the same name and version that is there already is replaced.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike,
        name: str,
        *,
        version: str = "1.0.0",
        shard_bytes: int = SHARD_BYTES,
    ):
        """Makes a folder beside the data set's own.

        Args:
          data_dir: the folder that holds data sets.
          name: in snake case.
          version: three numbers.
          shard_bytes: of rows, after which a new file is begun.

        Raises:
          UserError: if the folder cannot be made.
        """
        self.name, self.version = name, version
        self.folder = pathlib.Path(data_dir) / name / version
        self._partial = pathlib.Path(data_dir) / f".{name}-{version}.partial-{os.getpid()}"
        self._shard_bytes = shard_bytes
        self._features: Any = None
        self._columns: tuple[str, ...] = ()
        self._splits: dict[str, dict[str, _Group]] = {}
        self._digests: dict[str, int] = {}
        self.written: dict[str, WrittenSplit] = {}
        for leftover in self._partial.parent.glob(f".{name}-{version}.partial-*"):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            self._partial.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write to {data_dir}: {error.strerror or error}; choose another folder.") from error

    def write(self, split: str, row: Problem | Trace | Mapping[str, Any], *, group: str = "") -> None:
        """Appends a row to a group of a split.

        Args:
          split: any name; splits stand in the order of their first rows.
          row: text, `messages`, and `meta`, which is stored as JSON text; all rows of a set have the same keys.
          group: which other rows it shall stand beside.

        Raises:
          UserError: if its keys are not those of the first row.
        """
        values = _stored(row)
        if self._features is None:
            self._columns, self._features = tuple(values), _features(values)
        groups = self._splits.setdefault(split, {})
        if values.keys() != set(self._columns):
            number = sum(written.num_rows for written in groups.values())
            raise UserError(
                f"row {number} of split {split!r} has keys {list(values)}; the first has {list(self._columns)}."
            )
        if group not in groups:
            place = f"{len(self._splits)}-{len(groups)}"
            groups[group] = _Group(self._partial / place, shard_bytes=self._shard_bytes)
        groups[group].write(self._features.serialize_example(self._features.encode_example(values)))
        self._digests[split] = (self._digests.get(split, 0) + _row_hash(values)) % _DIGEST_MODULUS

    def __enter__(self) -> "TfdsWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for groups in self._splits.values():
                for group in groups.values():
                    group.close()
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _finish(self) -> None:
        """Gives the shards their names, describes them, and moves the folder to its place."""
        if not self._splits:
            raise UserError(f"the data set {self.name} has no rows; nothing is left to write.")
        import tensorflow_datasets as tfds

        infos = []
        for split, unordered in self._splits.items():
            groups = dict(sorted(unordered.items()))
            shards = [(group.path(number), rows) for group in groups.values() for number, rows in group.shards()]
            for number, (path, _) in enumerate(shards):
                path.rename(self._partial / _shard_name(self.name, split, number, len(shards)))
            self.written[split] = self._describe(split, groups)
            infos.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[rows for _, rows in shards],
                    num_bytes=self.written[split].num_bytes,
                )
            )
        tfds.folder_dataset.write_metadata(
            data_dir=self._partial,
            features=self._features,
            split_infos=infos,
            version=self.version,
            check_data=False,  # it would read by TensorFlow
        )
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._partial.rename(self.folder)

    def _describe(self, split: str, groups: Mapping[str, "_Group"]) -> WrittenSplit:
        slices, start = {}, 0
        for name, group in groups.items():
            slices[name] = (start, start + group.num_rows)
            start += group.num_rows
        num_bytes = sum(group.num_bytes for group in groups.values())
        return WrittenSplit(start, num_bytes, slices, f"{self._digests[split]:064x}")


class _Group:
    """The shards of one group of a split, under temporary names."""

    def __init__(self, prefix: pathlib.Path, *, shard_bytes: int):
        self._prefix, self._shard_bytes = prefix, shard_bytes
        self._rows: list[int] = []  # of each shard
        self._bytes: list[int] = []
        self._writer: Any = None

    @property
    def num_rows(self) -> int:
        """How many rows were written."""
        return sum(self._rows)

    @property
    def num_bytes(self) -> int:
        """How many bytes they have."""
        return sum(self._bytes)

    def path(self, number: int) -> pathlib.Path:
        """Returns the temporary name of a shard."""
        return self._prefix.with_name(f"{self._prefix.name}-{number}")

    def shards(self) -> list[tuple[int, int]]:
        """Returns the number of each shard, and of the rows in it."""
        return list(enumerate(self._rows))

    def write(self, record: bytes) -> None:
        """Appends a record, to a new shard where the last one is full."""
        if self._writer is None or self._bytes[-1] >= self._shard_bytes:
            from array_record.python.array_record_module import ArrayRecordWriter

            self.close()
            self._writer = ArrayRecordWriter(str(self.path(len(self._rows))), "group_size:1")
            self._rows.append(0)
            self._bytes.append(0)
        self._writer.write(record)
        self._rows[-1] += 1
        self._bytes[-1] += len(record)

    def close(self) -> None:
        """Ends the shard that is open."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _features(row: Mapping[str, Any]) -> Any:
    import tensorflow_datasets as tfds

    text = tfds.features.Text
    chat = tfds.features.Sequence({"role": text(), "content": text()})
    return tfds.features.FeaturesDict({key: chat if key == "messages" else text() for key in row})


def _stored(row: Problem | Trace | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row as it is stored: `meta` as JSON text, and lone surrogates, which UTF-8 cannot carry, as "?"."""
    row = as_row(row)
    if "meta" in row:
        row["meta"] = json.dumps(row["meta"], ensure_ascii=False)
    return {key: _encodable(value) if isinstance(value, str) else value for key, value in row.items()}


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _row_hash(row: Mapping[str, Any]) -> int:
    # Of the row, not of its bytes in the file: protocol buffers promise no order of the fields in a map.
    text = json.dumps(row, sort_keys=True, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogatepass")).digest(), "big")


def _shard_name(name: str, split: str, number: int, total: int) -> str:
    return f"{name}-{split}.array_record-{number:05d}-of-{total:05d}"
