"""Writes safetensors files piece by piece, in any order: no more than one piece is ever in memory."""

import json
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from phi4r.checkpoint.shards import DTYPE_NAMES, INDEX_FILE, ShardLayout, TensorSpec


class SafetensorsWriter:
    """Lays out all files of a folder at once, then takes rows of tensors in any order.

    The sizes are known before the first byte, so headers and the index are written first and every piece goes to its
    final place. That lets a stacked array of our tree fill the same tensor of every layer, whatever the files.

        with SafetensorsWriter(folder, layout, specs) as writer:
            writer.write("model.norm.weight", array)
    """

    def __init__(self, folder: pathlib.Path, layout: ShardLayout, specs: Mapping[str, TensorSpec]):
        """Writes headers and the index, and reserves the files.

        Args:
          folder: an existing folder.
          layout: which tensor goes to which file, in what order.
          specs: shape and dtype of every tensor in `layout`.
        """
        self._specs = specs
        self._missing = {name: specs[name].num_bytes for name in layout.tensor_names}
        self._places: dict[str, tuple[BinaryIO, int]] = {}
        self._files: list[BinaryIO] = []
        for file_name, names in layout.files.items():
            header, offsets = _header(names, specs, layout.file_metadata.get(file_name))
            file = (folder / file_name).open("wb")
            self._files.append(file)
            file.write(header)
            file.truncate(len(header) + sum(specs[name].num_bytes for name in names))
            self._places.update({name: (file, len(header) + offsets[name]) for name in names})
        if layout.index_metadata is not None:
            _write_index(folder / INDEX_FILE, layout, specs)

    def write(self, name: str, rows: np.ndarray, *, first_row: int = 0) -> None:
        """Writes `rows` of the tensor `name`, beginning at `first_row` of its first axis."""
        spec = self._specs[name]
        if rows.shape[1:] != spec.shape[1:] or first_row + len(rows) > spec.shape[0] or rows.dtype != spec.dtype:
            raise ValueError(f"{name}: rows {rows.shape} {rows.dtype} from {first_row} do not fit {spec}.")
        file, start = self._places[name]
        file.seek(start + first_row * (spec.num_bytes // max(spec.shape[0], 1)))
        file.write(np.ascontiguousarray(rows).view(np.uint8).data)
        self._missing[name] -= rows.nbytes

    def __enter__(self) -> "SafetensorsWriter":
        return self

    def __exit__(self, kind: Any, *exc: Any) -> None:
        for file in self._files:
            if kind is None:
                file.flush()
                os.fsync(file.fileno())
            file.close()
        if kind is None and any(self._missing.values()):
            raise ValueError(f"not all rows were written: {[n for n, left in self._missing.items() if left]}.")


def _header(
    names: tuple[str, ...], specs: Mapping[str, TensorSpec], metadata: Mapping[str, str] | None
) -> tuple[bytes, dict[str, int]]:
    """Returns the header, padded to 8 bytes as the reference library does, and the offset of every tensor's data."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offsets, end = {}, 0
    for name in names:
        spec = specs[name]
        offsets[name], end = end, end + spec.num_bytes
        entries[name] = {
            "dtype": DTYPE_NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [offsets[name], end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offsets


def _write_index(path: pathlib.Path, layout: ShardLayout, specs: Mapping[str, TensorSpec]) -> None:
    """Writes the index with the total size of these tensors, in the spelling of Hugging Face."""
    weight_map = {name: file for file, names in layout.files.items() for name in names}
    total_size = sum(specs[name].num_bytes for name in weight_map)
    index = {"metadata": {**layout.index_metadata, "total_size": total_size}, "weight_map": weight_map}
    path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
