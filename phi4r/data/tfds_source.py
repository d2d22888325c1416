"""TensorFlow datasets without TensorFlow: prepared folders of ArrayRecord files, read and written.

A prepared data set lies in DATA_DIR/NAME[/CONFIG]/VERSION with a dataset_info.json. Only data sets prepared with
`file_format="array_record"` allow random access.
"""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from phi4r.data.records import Problem, Trace
from phi4r.data.tfds_writer import TfdsWriter
from phi4r.errors import UserError

DEFAULT_DATA_DIR = "~/tensorflow_datasets"  # TFDS's own


class TfdsSource:
    """The examples of one split of a prepared data set, with bytes read as text and arrays as lists."""

    def __init__(self, spec: str):
        """Opens "NAME/SPLIT[@DATA_DIR]".

        Args:
          spec: NAME may carry a config and a version ("my_traces/hard:1.0.0"); without a version the newest is taken.
            SPLIT may be a slice ("train[:10%]"). DATA_DIR is $TFDS_DATA_DIR or ~/tensorflow_datasets by default.

        Raises:
          UserError: for a missing data set, config or split, an empty one, or one without random access.
        """
        body, _, folder = spec.partition("@")
        name, _, split = body.rpartition("/")
        if not name or not split:
            raise UserError(f"tfds:{spec} must read tfds:NAME/SPLIT[@DATA_DIR], as tfds:my_traces/train.")
        data_dir = pathlib.Path(folder or os.environ.get("TFDS_DATA_DIR", DEFAULT_DATA_DIR)).expanduser()
        self._spec = f"tfds:{body}"
        self._examples = _open_split(_find_prepared(name, data_dir), split, self._spec)
        if len(self._examples) == 0:
            raise UserError(f"{self._spec} has no rows: the data set is empty; prepare it again.")

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = _plain(self._examples[index])
        if isinstance(row.get("messages"), dict):  # TFDS turns a sequence of dicts into a dict of sequences
            fields = row["messages"]
            row["messages"] = [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
        if isinstance(row.get("meta"), str):  # as `write_tfds` stores it
            row["meta"] = json.loads(row["meta"])
        return row

    def where(self, index: int) -> str:
        """Returns "tfds:NAME/SPLIT example INDEX"."""
        return f"{self._spec} example {index}"


def write_tfds(
    data_dir: str | os.PathLike,
    name: str,
    splits: Mapping[str, Iterable[Problem | Trace | Mapping[str, Any]]],
    *,
    version: str = "1.0.0",
) -> None:
    """Prepares a data set of records or chat rows that TFDS, and "tfds:NAME/SPLIT@DATA_DIR", can read.

    The rows are written as they come, in their order, and not held in memory (`phi4r.data.tfds_writer`).

    Args:
      data_dir: the folder that holds data sets.
      name: in snake case.
      splits: the rows of each split; all rows have the same keys: text, `messages`, and `meta`, stored as JSON text.
      version: three numbers.

    Raises:
      UserError: for a split without rows, or rows whose keys differ.
    """
    with TfdsWriter(data_dir, name, version=version) as writer:
        for split, rows in splits.items():
            empty = True
            for row in rows:
                writer.write(split, row)
                empty = False
            if empty:
                raise UserError(f"split {split!r} of {name} has no rows; leave it out or fill it.")


def _find_prepared(name: str, data_dir: pathlib.Path) -> pathlib.Path:
    """Returns the folder with the dataset_info.json of `name`, the newest version of its one config."""
    found = _prepared_below(data_dir / name.replace(":", "/"))
    if not found:
        folders = sorted(data_dir.iterdir()) if data_dir.is_dir() else []
        known = ", ".join(folder.name for folder in folders if _prepared_below(folder)) or "nothing"
        raise UserError(f"tfds: no prepared data set {name!r} in {data_dir}; there: {known}.")
    configs = {path.parent for path in found}
    if len(configs) > 1:
        names = ", ".join(sorted(f"{name}/{path.name}" for path in configs))
        raise UserError(f"tfds: {name!r} has several configs; name one of {names}.")
    return max(found, key=_version)


def _prepared_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders with a dataset_info.json: `folder` itself, its versions, or its configs' versions."""
    return [info.parent for depth in ("", "*/", "*/*/") for info in folder.glob(depth + "dataset_info.json")]


def _version(path: pathlib.Path) -> Sequence[int]:
    return [int(part) if part.isdigit() else -1 for part in path.name.split(".")]


def _open_split(folder: pathlib.Path, split: str, spec: str) -> Sequence[Mapping[str, Any]]:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    if split.partition("[")[0] not in builder.info.splits:
        raise UserError(f"{spec}: no split {split!r}; there: {', '.join(sorted(builder.info.splits))}.")
    try:
        return builder.as_data_source(split=split)
    except NotImplementedError as error:
        raise UserError(f"{spec} does not allow random access; prepare it with file_format='array_record'.") from error


def _plain(value: Any) -> Any:
    """Returns text, numbers, lists and dicts in place of bytes, numpy scalars and arrays."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
