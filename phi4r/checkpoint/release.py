"""Models in and out: load a folder straight onto a mesh, save one that can be published.

loaded = load_model("phi-4", mesh=mesh)                    # Hugging Face folder or params checkpoint
save_hf_folder("out", params, config=loaded.config, source_folder=loaded.folder)
"""

import contextlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, Sharding, SingleDeviceSharding

from phi4r import hosts
from phi4r.checkpoint import hf_files, manifest, params_store
from phi4r.checkpoint.gathering import write_gathered
from phi4r.checkpoint.hf_layout import Leaf, hf_leaves, leaf_dtypes
from phi4r.checkpoint.mesh_loading import load_on_mesh
from phi4r.checkpoint.pieces import tensor_specs
from phi4r.checkpoint.safetensors_reader import SafetensorsFolder
from phi4r.checkpoint.safetensors_writer import SafetensorsWriter
from phi4r.checkpoint.shards import fitting_layout
from phi4r.checkpoint.staging import on_first_host, staged_folder
from phi4r.errors import UserError
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import param_axes
from phi4r.sharding import param_shardings
from phi4r.typing import Params


class LoadedModel(NamedTuple):
    """A model and the folder where its tokenizer and chat template lie."""

    config: ModelConfig
    params: Params
    folder: pathlib.Path


def load_model(
    path: str | os.PathLike, *, config: ModelConfig | None = None, mesh: Mesh | None = None, dtype: str | None = None
) -> LoadedModel:
    """Loads a Hugging Face folder or a params checkpoint, whichever `path` is.

    See `load_hf_folder` for the arguments.
    """
    is_orbax = (pathlib.Path(path) / params_store.PARAMS_FOLDER).is_dir()
    load = load_params if is_orbax else load_hf_folder
    return LoadedModel(*load(path, config=config, mesh=mesh, dtype=dtype), pathlib.Path(path))


def load_hf_folder(
    folder: str | os.PathLike, *, config: ModelConfig | None = None, mesh: Mesh | None = None, dtype: str | None = None
) -> tuple[ModelConfig, Params]:
    """Loads safetensors straight into the shards of a mesh; each device's part is read from the files alone.

    Args:
      folder: a Hugging Face folder of model type phi3 or llama.
      config: used instead of config.json, for other numerics; None to read it.
      mesh: where the parameters go, by the rules of `phi4r.sharding`; None for the first device.
      dtype: dtype of parameters and activations; None for that of `config` or, without one, the stored dtype.

    Returns:
      The config, with `param_dtype` as loaded, and the parameters in the stacked layout.

    Raises:
      UserError: for a damaged, incomplete or unsuitable folder.
    """
    folder = pathlib.Path(folder)
    hf_config = hf_files.read_json(folder / hf_files.CONFIG_FILE)
    tensors = SafetensorsFolder(folder)
    shape_of = config or hf_files.parse_config(hf_config, folder)
    leaves = hf_leaves(shape_of, fused=hf_files.is_fused(hf_config))
    stored = leaf_dtypes(leaves, tensors.specs, str(folder))
    config = _with_dtype(shape_of, stored.values(), dtype, keep=config is not None)
    param_dtype = np.dtype(jnp.dtype(config.param_dtype))
    shardings = _shardings(config, leaves, mesh)
    params = load_on_mesh(tensors, leaves, shardings, param_dtype)
    return config, unflatten_dict(params, sep="/")


def load_params(
    folder: str | os.PathLike, *, config: ModelConfig | None = None, mesh: Mesh | None = None, dtype: str | None = None
) -> tuple[ModelConfig, Params]:
    """Loads a params checkpoint onto a mesh, whatever mesh wrote it; arguments and result as `load_hf_folder`."""
    folder = pathlib.Path(folder)
    hf_config = hf_files.read_json(folder / hf_files.CONFIG_FILE)
    shape_of = config or hf_files.parse_config(hf_config, folder)
    leaves = hf_leaves(shape_of, fused=hf_files.is_fused(hf_config))
    stored = params_store.ParamsFolder(folder, leaves)
    config = _with_dtype(shape_of, stored.dtypes.values(), dtype, keep=config is not None)
    params = load_on_mesh(stored, leaves, _shardings(config, leaves, mesh), np.dtype(jnp.dtype(config.param_dtype)))
    return config, unflatten_dict(params, sep="/")


def save_params(
    folder: str | os.PathLike,
    params: Params,
    *,
    config: ModelConfig,
    source_folder: str | os.PathLike | None = None,
    hf_fields: Mapping[str, Any] | None = None,
) -> None:
    """Saves a params checkpoint (see `phi4r.checkpoint.params_store`), atomically; all hosts call this together.

    Tensors are gathered one at a time and written by the hosts in turn, into a folder that all of them see.

    Args:
      folder: must not exist, or be empty.
      params: the stacked tree.
      config: its shape.
      source_folder: whose tokenizer and other files go along; a config.json in it must describe the same shape.
      hf_fields: more fields for config.json, as `eos_token_id`.

    Raises:
      UserError: if `folder` is taken or cannot be written, or `source_folder` is of another shape.
    """
    arrays = flatten_dict(params, sep="/")
    dtypes = {path: np.dtype(array.dtype) for path, array in arrays.items()}
    with staged_folder(folder) as staging:
        hf_config = _write_files(staging, config, dtypes["embedding"], source_folder, hf_fields)
        leaves = hf_leaves(config, fused=hf_files.is_fused(hf_config))
        layout = None if source_folder is None else hf_files.read_layout(pathlib.Path(source_folder))
        if layout is not None and hosts.is_primary():
            hf_files.write_layout(staging, layout)
        params_store.create_arrays(staging, leaves, dtypes)
        sink = params_store.ParamsFolder(staging, leaves)
        digests = write_gathered(sink.write_rows, arrays, leaves, dtypes, writers=jax.process_count())
        if hosts.is_primary():
            manifest.write_manifest(staging, tensor_specs(leaves, dtypes), digests)


def save_hf_folder(
    folder: str | os.PathLike,
    params: Params,
    *,
    config: ModelConfig,
    source_folder: str | os.PathLike | None = None,
    dtype: str | None = None,
    hf_fields: Mapping[str, Any] | None = None,
) -> None:
    """Saves a Hugging Face folder, atomically: in the tensor layout of the source (phi3 where there is none).

    All hosts call this together; tensors are gathered one at a time, and the first host writes them.

    Args:
      folder: must not exist, or be empty.
      params: the stacked tree.
      config: its shape.
      source_folder: whose tokenizer and other files go along; a config.json in it must describe the same shape.
      dtype: to write; None for that of `params`.
      hf_fields: more fields for config.json, as `eos_token_id`.

    Raises:
      UserError: if `folder` is taken or cannot be written, or `source_folder` is of another shape.
    """
    arrays = flatten_dict(params, sep="/")
    dtypes = {path: np.dtype(jnp.dtype(dtype) if dtype else array.dtype) for path, array in arrays.items()}
    with staged_folder(folder) as staging:
        hf_config = _write_files(staging, config, dtypes["embedding"], source_folder, hf_fields)
        leaves = hf_leaves(config, fused=hf_files.is_fused(hf_config))
        specs = tensor_specs(leaves, dtypes)
        layout = None if source_folder is None else hf_files.read_layout(pathlib.Path(source_folder))
        with contextlib.ExitStack() as stack:
            write = None
            if hosts.is_primary():
                write = stack.enter_context(SafetensorsWriter(staging, fitting_layout(layout, specs), specs)).write_rows
            write_gathered(write, arrays, leaves, dtypes, writers=1)


def _write_files(
    staging: pathlib.Path,
    config: ModelConfig,
    dtype: np.dtype,
    source_folder: str | os.PathLike | None,
    hf_fields: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Carries the source's files along and writes config.json, on the first host; returns what it holds."""
    if source_folder is not None and not pathlib.Path(source_folder).is_dir():
        raise UserError(f"{source_folder} is not a folder; give the folder that holds the tokenizer files.")

    def write() -> None:
        if source_folder is not None:
            hf_files.carry_files(source_folder, staging)
        hf_files.write_config(staging, config, dtype, extra=hf_fields)

    on_first_host(write)
    return hf_files.read_json(staging / hf_files.CONFIG_FILE)


def _with_dtype(config: ModelConfig, stored: Any, dtype: str | None, *, keep: bool) -> ModelConfig:
    """Returns `config` with the dtypes asked for: `dtype`, else those it has (`keep`), else the widest stored one."""
    if dtype is None and keep:
        return config
    name = dtype or max(stored, key=lambda d: d.itemsize).name
    return config.replace(dtype=name, param_dtype=name)


def _shardings(config: ModelConfig, leaves: tuple[Leaf, ...], mesh: Mesh | None) -> dict[str, Sharding]:
    """Returns the sharding of every leaf by path."""
    if mesh is None:
        return {leaf.path: SingleDeviceSharding(jax.local_devices()[0]) for leaf in leaves}
    shapes = {leaf.path: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(config.param_dtype)) for leaf in leaves}
    axes = flatten_dict(param_axes(config), sep="/")
    return param_shardings(mesh, {path: axes[path] for path in shapes}, shapes)
