"""Reads a folder of safetensors: opening it costs nothing, slices read only their own pages, pieces their own bytes."""

import json
import mmap
import os
import pathlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from phi4r.checkpoint.hf_layout import Leaf
from phi4r.checkpoint.pieces import Piece
from phi4r.checkpoint.shards import INDEX_FILE, SINGLE_FILE, ShardLayout, TensorSpec, dtype_named
from phi4r.errors import UserError

MEND = "copy or download the file again"


class SafetensorsFolder(Mapping[str, np.ndarray]):
    """The tensors of a folder, by name, as read-only memory-mapped arrays.

    Every header is checked on opening, so that a truncated download is refused before any work is done.

    Attributes:
      specs: name -> shape and dtype.
      layout: which file each tensor lies in, and in what order.
    """

    def __init__(self, folder: str | os.PathLike):
        """Opens `folder`, which holds model.safetensors, or an index and the files that it names.

        Raises:
          UserError: if a file is missing, truncated or inconsistent.
        """
        self._folder = pathlib.Path(folder)
        index = _read_index(self._folder)
        file_names = [SINGLE_FILE] if index is None else sorted(set(index["weight_map"].values()))
        self.specs: dict[str, TensorSpec] = {}
        self._views: dict[str, np.ndarray] = {}
        self._places: dict[str, tuple[pathlib.Path, int]] = {}
        self._maps: list[mmap.mmap] = []
        files, file_metadata = {}, {}
        for file_name in file_names:
            files[file_name], file_metadata[file_name] = self._open(file_name)
        self.layout = ShardLayout(files, file_metadata, None if index is None else index.get("metadata", {}))
        if index is not None:
            _check_index(self._folder, index["weight_map"], files)

    def __getitem__(self, name: str) -> np.ndarray:
        """Returns the tensor as a read-only view of the file."""
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def read_rows(self, piece: Piece) -> np.ndarray:
        """Returns a piece as rows of its tensor, in memory of its own: not mapped, so that no pages pile up.

        Raises:
          UserError: if the file has become shorter.
        """
        path, start = self._places[piece.name]
        spec = self.specs[piece.name]
        rows = np.empty(piece.matrix_shape, spec.dtype)
        with path.open("rb") as file:
            if not read_at(file.fileno(), rows, start + piece.first_row * spec.row_bytes):
                raise UserError(f"{path} is truncated: it ends inside tensor {piece.name}; {MEND}.")
        return rows

    def read_part(self, leaf: Leaf, layer: int, index: tuple[slice, ...]) -> np.ndarray:
        """Returns the slice `index` of one layer of a leaf, in the axes of `leaf.axes_shape`, in memory of its own."""
        return np.array(leaf.rows_of(self[leaf.names[layer]])[index], order="C")

    def forget_pages(self) -> None:
        """Gives the memory of pages that were read back to the system; they are read again where needed."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)

    def _open(self, file_name: str) -> tuple[tuple[str, ...], dict[str, str]]:
        """Maps one file; returns the names of its tensors in the order of their bytes, and its metadata."""
        path = self._folder / file_name
        header, data_start = _read_header(path)
        metadata = header.pop("__metadata__", {})
        data_size = path.stat().st_size - data_start
        order = sorted(header, key=lambda name: _offsets(path, name, header[name]))
        data = np.frombuffer(self._map(path), np.uint8)[data_start:]
        end = 0
        for name in order:
            if name in self.specs:
                raise UserError(f"{path}: tensor {name} is in another file of the folder too; {MEND}.")
            entry = header[name]
            start, stop = _offsets(path, name, entry)
            spec = TensorSpec(tuple(entry["shape"]), dtype_named(entry["dtype"], f"{path}: tensor {name}"))
            if start != end:
                raise UserError(f"{path} is damaged: tensor {name} overlaps another or leaves a gap; {MEND}.")
            if stop - start != spec.num_bytes:
                raise UserError(f"{path} is damaged: tensor {name} does not have the size of its shape; {MEND}.")
            if stop > data_size:
                raise UserError(f"{path} is truncated: tensor {name} ends after the end of the file; {MEND}.")
            self.specs[name] = spec
            self._views[name] = data[start:stop].view(spec.dtype).reshape(spec.shape)
            self._places[name] = (path, data_start + start)
            end = stop
        if end != data_size:
            raise UserError(f"{path} is damaged: {data_size - end} bytes after its last tensor; {MEND}.")
        return tuple(order), metadata

    def _map(self, path: pathlib.Path) -> mmap.mmap:
        """Maps a file, which is not empty."""
        with path.open("rb") as file:
            self._maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return self._maps[-1]


def read_at(file: int, array: np.ndarray, place: int) -> bool:
    """Fills `array` from a file descriptor, from the byte `place`; returns whether the file was long enough."""
    rest = memoryview(array.reshape(-1).view(np.uint8))
    while rest:  # one call reads at most 2 GB
        count = os.preadv(file, [rest], place)
        if not count:
            return False
        rest, place = rest[count:], place + count
    return True


def _read_header(path: pathlib.Path) -> tuple[dict[str, Any], int]:
    """Returns the JSON header of a file and where its data begin."""
    if not path.is_file():
        raise UserError(f"{path} is missing; {MEND}.")
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else size
        if 8 + length > size:
            raise UserError(f"{path} is truncated: it ends inside its header; {MEND}.")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise UserError(f"{path} is damaged: its header is not JSON; {MEND}.")
    return header, 8 + length


def _offsets(path: pathlib.Path, name: str, entry: Any) -> tuple[int, int]:
    """Returns where the tensor begins and ends in the data part."""
    try:
        start, stop = entry["data_offsets"]
        if not all(isinstance(n, int) and n >= 0 for n in (start, stop, *entry["shape"])):
            raise ValueError("not a size")
        return start, stop
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} is damaged: the header entry of tensor {name} is malformed; {MEND}.") from None


def _read_index(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the parsed index file, or None where a single file holds everything."""
    path = folder / INDEX_FILE
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder that holds config.json and *.safetensors.")
    if not path.is_file():
        if not (folder / SINGLE_FILE).is_file():
            raise UserError(
                f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}; phi4r reads safetensors: download them, or "
                "save the model again with safe serialization."
            )
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(file, str) for file in index["weight_map"].values()):
            raise TypeError("file names are strings")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged: no weight_map in it; {MEND}.") from None
    return index


def _check_index(folder: pathlib.Path, weight_map: Mapping[str, str], files: Mapping[str, tuple[str, ...]]) -> None:
    """Raises UserError unless the index and the headers tell the same."""
    held = {name: file for file, names in files.items() for name in names}
    for name, file in weight_map.items():
        if held.get(name) != file:
            raise UserError(f"{folder / file} lacks tensor {name}, which {INDEX_FILE} says is there; {MEND}.")
    for name, file in held.items():
        if name not in weight_map:
            raise UserError(f"{folder / file} holds tensor {name}, which {INDEX_FILE} does not list; {MEND}.")
