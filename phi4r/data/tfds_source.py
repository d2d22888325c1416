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

from phi4r.data.records import Problem, Trace, as_row
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

    Args:
      data_dir: the folder that holds data sets.
      name: in snake case.
      splits: the rows of each split; all rows have the same keys: text, `messages`, and `meta`, stored as JSON text.
      version: three numbers.

    Raises:
      UserError: for a split without rows, or rows whose keys differ.
    """
    rows = {split: [_tfds_row(row) for row in split_rows] for split, split_rows in splits.items()}
    for split, split_rows in rows.items():
        if not split_rows:
            raise UserError(f"split {split!r} of {name} has no rows; leave it out or fill it.")
    keys = next(iter(rows.values()))[0].keys()
    for split, split_rows in rows.items():
        for index, row in enumerate(split_rows):
            if row.keys() != keys:
                raise UserError(f"row {index} of split {split!r} has keys {list(row)}; the first has {list(keys)}.")
    _prepare(pathlib.Path(data_dir), name, rows, version)


def _prepare(data_dir: pathlib.Path, name: str, rows: dict[str, list[dict]], version: str) -> None:
    import tensorflow_datasets as tfds

    text = tfds.features.Text
    chat = tfds.features.Sequence({"role": text(), "content": text()})
    first = next(iter(rows.values()))[0]

    class Builder(tfds.dataset_builders.AdhocBuilder, skip_registration=True):
        """An AdhocBuilder whose splits are plain rows: its own method asks for TensorFlow's types."""

        def _split_generators(self, dl_manager):
            return {split: iter(enumerate(split_rows)) for split, split_rows in self._split_datasets.items()}

    Builder(
        name=name,
        version=version,
        features=tfds.features.FeaturesDict({key: chat if key == "messages" else text() for key in first}),
        split_datasets=rows,
        data_dir=data_dir,
        file_format="array_record",
    ).download_and_prepare()


def _tfds_row(row: Problem | Trace | Mapping[str, Any]) -> dict[str, Any]:
    row = as_row(row)
    if "meta" in row:
        row["meta"] = json.dumps(row["meta"], ensure_ascii=False)
    return row


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
