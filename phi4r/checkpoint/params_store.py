"""Parameters as an Orbax checkpoint that is written and read in pieces.

A params checkpoint is a folder:

    DIR/params/                     Orbax checkpoint of the parameter tree (free of any mesh: any other can read it)
    DIR/safetensors_manifest.json   checksum, shape and dtype of every tensor (see `phi4r.checkpoint.manifest`)
    DIR/safetensors_layout.json     which tensor lay in which file of the source (absent for a model of our own)
    DIR/config.json                 and every other file of the Hugging Face folder that is not a weight

Orbax writes a leaf as a whole, and holds it twice meanwhile. Here Orbax writes the tree with placeholders, and
TensorStore, which Orbax itself stores arrays with, makes the arrays anew at full size and fills them in pieces: zarr3
arrays that any Orbax reads. Their layout is ours:

* A file is a piece: rows of one tensor of one layer. Files are written whole, by any thread or host.
* Inside a file lie chunks that divide D, so that a host of a mesh reads its part of D and no more; each has a CRC.
* Bytes are in the order of the Hugging Face tensor (a transpose codec). Copying is all that conversion has to do; a
  load transposes on the device.
"""

import errno
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from flax.traverse_util import unflatten_dict

from phi4r.checkpoint.hf_layout import Leaf
from phi4r.checkpoint.pieces import Piece, piece_length
from phi4r.checkpoint.staging import on_first_host
from phi4r.errors import UserError

PARAMS_FOLDER = "params"
EMBED_CHUNKS = 32  # into how many chunks D is cut,
MIN_CHUNK_BYTES = 2**16  # as long as they are no smaller than this

_LITTLE_ENDIAN = {"name": "bytes", "configuration": {"endian": "little"}}


class ParamsFolder:
    """The arrays of a params checkpoint, open for reading and writing in pieces.

    Attributes:
      dtypes: of every leaf, by path.
    """

    def __init__(self, folder: pathlib.Path, leaves: Sequence[Leaf]):
        """Opens the arrays.

        Args:
          folder: the params checkpoint.
          leaves: of the model that config.json describes.

        Raises:
          UserError: if there is no checkpoint, it is damaged, or its arrays are not exactly `leaves`.
        """
        self._target = (folder / PARAMS_FOLDER).absolute()
        if not self._target.is_dir():
            raise UserError(
                f"{folder} has no {PARAMS_FOLDER} folder; give a folder written by phi4r convert hf-to-orbax."
            )
        context = _context()
        stored = {path.parent.name.replace(".", "/") for path in self._target.glob("*/zarr.json")}
        self._arrays = {path: self._checked(lambda path=path: _open(self._target, path, context)) for path in stored}
        _check_leaves(leaves, {path: array.shape for path, array in self._arrays.items()}, folder)
        self.dtypes = {path: array.dtype.numpy_dtype for path, array in self._arrays.items()}

    def read_rows(self, piece: Piece) -> np.ndarray:
        """Returns a piece as rows of its tensor.

        Raises:
          UserError: if the data are damaged.
        """
        part = self.read_part(piece.leaf, piece.layer, (slice(piece.start, piece.stop),))
        return part.reshape(piece.matrix_shape)

    def read_part(self, leaf: Leaf, layer: int, index: tuple[slice, ...]) -> np.ndarray:
        """Returns the slice `index` of one layer, in the axes of `leaf.axes_shape`; only its chunks are read.

        Raises:
          UserError: if the data are damaged.
        """
        return self._checked(lambda: self._layer(leaf, layer)[index].read(order="C"))

    def write_rows(self, piece: Piece, rows: np.ndarray) -> None:
        """Writes the file of a piece, through to the disk."""
        view = self._layer(piece.leaf, piece.layer)[piece.start : piece.stop]
        _written(view.write(rows.reshape(piece.axes_shape), can_reference_source_data_indefinitely=True))

    def keep(self, name: str) -> None:
        """Does nothing: the files of the tensor `name` are whole already."""

    def forget_pages(self) -> None:
        """Does nothing: no memory is mapped."""

    def _layer(self, leaf: Leaf, layer: int) -> ts.TensorStore:
        """Returns a view of one layer in the axes of `leaf.axes_shape`."""
        array = self._arrays[leaf.path]
        return (array[layer] if leaf.stacked else array).transpose(leaf.inverse_order)

    def _checked(self, start: Callable[[], ts.Future]) -> Any:
        """Returns the result of a read, or raises its failure as one line."""
        try:
            return start().result()
        except (ValueError, OSError) as error:
            raise UserError(
                f"{self._target} cannot be read ({_first_line(error)}); convert or copy it again."
            ) from error


def create_arrays(folder: pathlib.Path, leaves: Sequence[Leaf], dtypes: Mapping[str, np.dtype]) -> None:
    """Makes the Orbax checkpoint with arrays that hold nothing yet; all hosts call this together, the first one writes.

    Args:
      folder: of the params checkpoint; exists, without `PARAMS_FOLDER`.
      leaves: of the model.
      dtypes: of every leaf, by path.
    """
    target = (folder / PARAMS_FOLDER).absolute()
    tree = {leaf.path: np.zeros((1,) * len(leaf.shape), dtypes[leaf.path]) for leaf in leaves}
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_zarr3=True)) as checkpointer:
        checkpointer.save(target, unflatten_dict(tree, sep="/"))

    def make() -> None:
        context = _context()
        for leaf in leaves:
            _written(_open(target, leaf.path, context, metadata=_array_metadata(leaf, dtypes[leaf.path])))

    on_first_host(make)


def _open(target: pathlib.Path, path: str, context: ts.Context, *, metadata: Any = None) -> ts.Future:
    """Opens an array, or with `metadata` makes it anew."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{target / path.replace('/', '.')}/"},
        "store_data_equal_to_fill_value": True,  # so that
        "fill_missing_data_reads": False,  # a file that is lost is not read as zeros
    }
    if metadata is None:
        return ts.open(spec, context=context, open=True)
    return ts.open({**spec, "metadata": metadata}, context=context, create=True, delete_existing=True)


def _array_metadata(leaf: Leaf, dtype: np.dtype) -> dict[str, Any]:
    """Returns the zarr3 metadata of a leaf: a file for each piece, chunks in it along D, bytes as in the tensor."""
    file_shape = (piece_length(leaf, dtype), *leaf.axes_shape[1:])
    along_embed = file_shape[leaf.embed_axis]
    most = min(
        max(1, EMBED_CHUNKS * along_embed // leaf.axes_shape[leaf.embed_axis]),
        max(1, int(np.prod(file_shape)) * dtype.itemsize // MIN_CHUNK_BYTES),
    )
    cuts = max(count for count in range(1, most + 1) if along_embed % count == 0)
    chunk_shape = list(file_shape)
    chunk_shape[leaf.embed_axis] //= cuts
    layers = [1] if leaf.stacked else []
    tensor_order = [*range(len(layers)), *(len(layers) + axis for axis in leaf.inverse_order)]
    codecs = [{"name": "transpose", "configuration": {"order": tensor_order}}, _LITTLE_ENDIAN, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": layers + [chunk_shape[axis] for axis in leaf.order],
        "codecs": codecs,
        "index_codecs": [_LITTLE_ENDIAN, {"name": "crc32c"}],
    }
    grid = {"chunk_shape": layers + [file_shape[axis] for axis in leaf.order]}
    return {
        "shape": list(leaf.shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": grid},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
    }


def _check_leaves(leaves: Sequence[Leaf], shapes: Mapping[str, tuple[int, ...]], where: pathlib.Path) -> None:
    """Raises UserError unless the stored arrays are exactly those of the table, with the same shapes."""
    expected = {leaf.path: leaf.shape for leaf in leaves}
    for path in [*expected, *sorted(shapes)]:
        stored, wanted = shapes.get(path, "no such array"), expected.get(path, "no such array")
        if stored != wanted:
            raise UserError(
                f"{where}: parameter {path} is stored as {stored}, but config.json asks for {wanted}; "
                "config.json and params must be of the same model."
            )


def _context() -> ts.Context:
    """Returns what bounds the memory of TensorStore: nothing is cached, few files are under way."""
    return ts.Context({"cache_pool": {"total_bytes_limit": 0}, "file_io_concurrency": {"limit": 8}})


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _written(future: ts.Future) -> None:
    """Waits for a write; raises OSError where the system refuses it."""
    try:
        future.result()
    except ValueError as error:  # TensorStore has no other class, and names the number in its text
        number = re.search(r"os_error_code='(\d+)'", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, _first_line(error)) from error
