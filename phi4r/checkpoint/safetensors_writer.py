"""Writes safetensors files piece by piece, in any order and by several threads."""

import json
import os
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from phi4r.checkpoint.pieces import Piece
from phi4r.checkpoint.safetensors_reader import read_at
from phi4r.checkpoint.shards import DTYPE_NAMES, INDEX_FILE, ShardLayout, TensorSpec
from phi4r.errors import UserError

SYNC_BYTES = 2**20  # larger pieces go to the disk at once: the system's write-back would stall the last ones


class SafetensorsWriter:
    """Lays out all files of a folder at once, then takes rows of tensors in any order.

    The sizes are known before the first byte, so headers and the index are written first and every piece goes to its
    final place, whatever the order. What an earlier attempt has written into the same files stays until it is replaced.

        with SafetensorsWriter(folder, layout, specs) as writer:
            writer.write("model.norm.weight", array)
    """

    def __init__(self, folder: pathlib.Path, layout: ShardLayout, specs: Mapping[str, TensorSpec]):
        """Writes headers and the index, and reserves the files.

        Args:
          folder: an existing folder.
          layout: which tensor goes to which file, in what order.
          specs: shape and dtype of every tensor in `layout`.

        Raises:
          UserError: for a dtype that safetensors folders do not hold.
        """
        for name, spec in specs.items():
            if spec.dtype not in DTYPE_NAMES:
                raise UserError(f"tensor {name} is {spec.dtype}, which safetensors folders of this kind do not hold.")
        self._specs = specs
        self._missing = {name: specs[name].num_bytes for name in layout.tensor_names}
        self._places: dict[str, tuple[int, int]] = {}  # file descriptor and offset
        self._files: list[int] = []
        for file_name, names in layout.files.items():
            header, offsets = _header(names, specs, layout.file_metadata.get(file_name))
            file = os.open(folder / file_name, os.O_RDWR | os.O_CREAT, 0o666)
            self._files.append(file)
            os.pwrite(file, header, 0)
            os.ftruncate(file, len(header) + sum(specs[name].num_bytes for name in names))
            self._places.update({name: (file, len(header) + offsets[name]) for name in names})
        if layout.index_metadata is not None:
            _write_index(folder / INDEX_FILE, layout, specs)

    def write(self, name: str, rows: np.ndarray, *, first_row: int = 0) -> None:
        """Writes `rows` of the tensor `name`, beginning at `first_row` of its first axis."""
        spec = self._specs[name]
        if rows.shape[1:] != spec.shape[1:] or first_row + len(rows) > spec.shape[0] or rows.dtype != spec.dtype:
            raise ValueError(f"{name}: rows {rows.shape} {rows.dtype} from {first_row} do not fit {spec}.")
        file, start = self._places[name]
        place = start + first_row * spec.row_bytes
        rest = memoryview(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))
        while rest:  # one call writes at most 2 GB
            count = os.pwrite(file, rest, place)
            rest, place = rest[count:], place + count
        if rows.nbytes >= SYNC_BYTES:
            os.fdatasync(file)
        self._missing[name] -= rows.nbytes

    def write_rows(self, piece: Piece, rows: np.ndarray) -> None:
        """Writes a piece to its place."""
        self.write(piece.name, rows, first_row=piece.first_row)

    def read_rows(self, piece: Piece) -> np.ndarray:
        """Returns what the file holds in the place of a piece."""
        spec = self._specs[piece.name]
        file, start = self._places[piece.name]
        rows = np.empty(piece.matrix_shape, spec.dtype)
        read_at(file, rows, start + piece.first_row * spec.row_bytes)
        return rows

    def keep(self, name: str) -> None:
        """Says that the file holds the whole tensor `name` already."""
        self._missing[name] = 0

    def __enter__(self) -> "SafetensorsWriter":
        return self

    def __exit__(self, kind: Any, *exc: Any) -> None:
        for file in self._files:
            if kind is None:
                os.fsync(file)
            os.close(file)
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
