"""Parameters in Orbax: written leaf by leaf or as a tree, read leaf by leaf, on the host or onto a mesh.

A params checkpoint is a folder:

    DIR/params/                  Orbax checkpoint of the parameter tree (free of any mesh: any other can read it)
    DIR/params_index.json        shape and dtype of every leaf
    DIR/config.json              and every other file of the Hugging Face folder that is not a weight
    DIR/safetensors_layout.json  which tensor lay in which file of the source (absent for a model of our own)

The newer Orbax interface is used because it alone saves a tree in parts. Arrays are stored in chunks, so that a device
reads its own shard and not the whole array.
"""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from phi4r.checkpoint.hf_files import PARAMS_INDEX_FILE, read_json, write_json
from phi4r.checkpoint.hf_layout import Leaf
from phi4r.checkpoint.shards import TensorSpec
from phi4r.errors import UserError
from phi4r.typing import Params

PARAMS_FOLDER = "params"
CHUNK_BYTES = 64 * 2**20


@contextlib.contextmanager
def leaf_writer(folder: pathlib.Path) -> Iterator[Any]:
    """Yields `write(path, array)` for host arrays; the tree is committed when the block ends without an error."""
    target = (folder / PARAMS_FOLDER).absolute()
    specs: dict[str, TensorSpec] = {}

    def write(path: str, array: np.ndarray) -> None:
        specs[path] = TensorSpec(array.shape, array.dtype)
        ocp.partial.save(target, unflatten_dict({path: array}, sep="/"))

    with _context():
        yield write
        ocp.partial.finalize(target)
    _write_index(folder, specs)


def save_tree(folder: pathlib.Path, params: Params) -> None:
    """Saves a tree of device arrays, shard by shard."""
    with _context():
        ocp.save((folder / PARAMS_FOLDER).absolute(), params)
    leaves = flatten_dict(params, sep="/")
    _write_index(folder, {path: TensorSpec(leaf.shape, np.dtype(leaf.dtype)) for path, leaf in leaves.items()})


def stored_specs(folder: pathlib.Path) -> dict[str, TensorSpec]:
    """Returns shape and dtype of every stored leaf by path, "layers/attn/q".

    Raises:
      UserError: if there is no complete checkpoint.
    """
    if not (folder / PARAMS_FOLDER).is_dir():
        raise UserError(f"{folder} has no {PARAMS_FOLDER} folder; give a folder written by phi4r convert hf-to-orbax.")
    index = read_json(folder / PARAMS_INDEX_FILE)
    return {path: TensorSpec(tuple(leaf["shape"]), np.dtype(leaf["dtype"])) for path, leaf in index.items()}


def check_leaves(leaves: tuple[Leaf, ...], specs: dict[str, TensorSpec], where: pathlib.Path) -> None:
    """Raises UserError unless the stored leaves are exactly those of the table, with the same shapes."""
    expected = {leaf.path: leaf.shape for leaf in leaves}
    for path in [*expected, *specs]:
        stored = specs[path].shape if path in specs else "no such array"
        if path not in expected or stored != expected[path]:
            raise UserError(
                f"{where}: parameter {path} is stored as {stored}, but config.json asks for "
                f"{expected.get(path, 'no such array')}; config.json and params must be of the same model."
            )


def load_leaf(folder: pathlib.Path, path: str, wanted: Any) -> Any:
    """Reads one leaf.

    Args:
      folder: the params checkpoint.
      path: of the leaf, "layers/attn/q".
      wanted: a ShapeDtypeStruct with a sharding, for an array of that dtype whose devices read their own shards; or a
        numpy array of the same shape and dtype, for an array in host memory.

    Raises:
      UserError: if the data are damaged.
    """
    target = (folder / PARAMS_FOLDER).absolute()  # as Orbax demands
    try:
        with _context():
            return jax.tree.leaves(ocp.load(target, unflatten_dict({path: wanted}, sep="/")))[0]
    except (ValueError, OSError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{target} cannot be read ({reason}); convert or copy it again.") from error


def _write_index(folder: pathlib.Path, specs: Mapping[str, TensorSpec]) -> None:
    """Writes shapes and dtypes; the arrays' own are spread over as many files as there are leaves."""
    write_json(
        folder / PARAMS_INDEX_FILE,
        {path: {"shape": list(spec.shape), "dtype": spec.dtype.name} for path, spec in specs.items()},
    )


def _context() -> ocp.Context:
    """Returns how to save and load: in chunks, without a second copy on the host, and leaf by leaf."""
    context = ocp.Context()
    context.array.saving.storage_options.chunk_byte_size = CHUNK_BYTES
    context.memory.deepcopy_host_arrays = False
    context.pytree.loading.partial_load = True
    return context
