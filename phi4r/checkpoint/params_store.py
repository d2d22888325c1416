"""Parameters in Orbax: written leaf by leaf, read as a whole onto a mesh or leaf by leaf on the host.

A params checkpoint is a folder:

    DIR/params/                  Orbax checkpoint of the parameter tree (free of any mesh: any other can read it)
    DIR/config.json              and every other file of the Hugging Face folder that is not a weight
    DIR/safetensors_layout.json  which tensor lay in which file of the source (absent for a model of our own)

The newer Orbax interface is used because it alone saves a tree in parts. Arrays are stored in chunks, so that a device
reads its own shard and not the whole array.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from flax.traverse_util import flatten_dict, unflatten_dict

from phi4r.checkpoint.hf_layout import Leaf
from phi4r.checkpoint.shards import TensorSpec
from phi4r.errors import UserError
from phi4r.typing import Params

PARAMS_FOLDER = "params"
CHUNK_BYTES = 64 * 2**20


@contextlib.contextmanager
def leaf_writer(folder: pathlib.Path) -> Iterator[Any]:
    """Yields `write(path, array)` for host arrays; the tree is committed when the block ends without an error."""
    target = folder / PARAMS_FOLDER

    def write(path: str, array: np.ndarray) -> None:
        ocp.partial.save(target, unflatten_dict({path: array}, sep="/"))

    with _context():
        yield write
        ocp.partial.finalize(target)


def save_tree(folder: pathlib.Path, params: Params) -> None:
    """Saves a tree of device arrays, each process its own shards."""
    with _context():
        ocp.save(folder / PARAMS_FOLDER, params)


def stored_specs(folder: pathlib.Path) -> dict[str, TensorSpec]:
    """Returns shape and dtype of every stored leaf by path, "layers/attn/q".

    Raises:
      UserError: if there is no complete checkpoint.
    """
    target = folder / PARAMS_FOLDER
    if not target.is_dir():
        raise UserError(f"{folder} has no {PARAMS_FOLDER} folder; give a folder written by phi4r convert hf-to-orbax.")
    with _damage_named(target):
        tree = ocp.metadata(target).metadata
    return {path: TensorSpec(tuple(m.shape), np.dtype(m.dtype)) for path, m in flatten_dict(tree, sep="/").items()}


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


def load_leaf(folder: pathlib.Path, path: str, spec: TensorSpec) -> np.ndarray:
    """Reads one leaf into host memory."""
    target = folder / PARAMS_FOLDER
    wanted = unflatten_dict({path: np.broadcast_to(np.zeros((), spec.dtype), spec.shape)}, sep="/")
    with _context(), _damage_named(target):
        return jax.tree.leaves(ocp.load(target, wanted))[0]


def load_tree(folder: pathlib.Path, abstract: Params) -> Params:
    """Reads the tree straight into the shardings and dtypes of `abstract`, a tree of ShapeDtypeStructs."""
    target = folder / PARAMS_FOLDER
    with _damage_named(target):
        return ocp.load(target, abstract)


def _context() -> ocp.Context:
    """Returns how to save and load: in chunks, without a second copy on the host, and leaf by leaf."""
    saving = ocp.options.ArrayOptions.Saving
    loading = ocp.options.PyTreeOptions.Loading
    return ocp.Context(
        array_options=ocp.options.ArrayOptions(
            saving=saving(storage_options=saving.StorageOptions(chunk_byte_size=CHUNK_BYTES))
        ),
        memory_options=ocp.options.MemoryOptions(deepcopy_host_arrays=False),
        pytree_options=ocp.options.PyTreeOptions(loading=loading(partial_load=True)),
    )


@contextlib.contextmanager
def _damage_named(target: pathlib.Path) -> Iterator[None]:
    """Turns what a damaged file raises into one line that names the checkpoint."""
    try:
        yield
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(f"{target} cannot be read ({reason}); convert or copy it again.") from error
