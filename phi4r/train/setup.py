"""Before the first step of a training loop: sizes checked, the shape read, parameters and rows put on the mesh."""

import dataclasses
import os
import pathlib
from typing import Any, Literal

import jax
from jax.sharding import Mesh

from phi4r.checkpoint.hf_files import CONFIG_FILE, parse_config, read_json
from phi4r.errors import UserError
from phi4r.model.config import ModelConfig
from phi4r.model.transformer import abstract_params, param_axes
from phi4r.sharding import batch_sharding, batch_shards, param_shardings
from phi4r.typing import Params


@dataclasses.dataclass(frozen=True)
class ModelOverrides:
    """Numerics of training, on top of the shape that the model folder gives.

    Attributes:
      dtype: of activations.
      param_dtype: of the parameters that the optimizer updates. In bfloat16 an update of less than 1/256 of a weight
        is rounded away, and at learning rates of 1e-5 most are.
      remat: "full" computes the blocks again in the backward pass, for memory; "none" keeps their activations.
    """

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "full"] = "full"


def read_model_config(folder: str | os.PathLike, overrides: ModelOverrides) -> ModelConfig:
    """Reads the shape of the model in `folder` (Hugging Face or Orbax), with the numerics of `overrides`.

    Raises:
      UserError: if there is no model, or one of another architecture.
    """
    folder = pathlib.Path(folder)
    return parse_config(read_json(folder / CONFIG_FILE), folder, **dataclasses.asdict(overrides))


def params_on_mesh(config: ModelConfig, mesh: Mesh) -> Params:
    """Returns the parameters as ShapeDtypeStructs with their shardings: what a checkpoint is restored into."""
    shapes = abstract_params(config)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        param_shardings(mesh, param_axes(config), shapes),
    )


def check_rows(mesh: Mesh, num_rows: int, *, num_microbatches: int = 1, where: str) -> None:
    """Refuses a batch that does not spread evenly, before anything is allocated.

    Args:
      mesh: whose `data` and `fsdp` axes share the rows.
      num_rows: rows of the global batch.
      num_microbatches: parts of the batch, each of which is spread over the mesh.
      where: the name of the setting, for the message.

    Raises:
      UserError: if `num_rows` is not a multiple of shards times micro-batches.
    """
    shards = batch_shards(mesh)
    unit = shards * num_microbatches
    if num_rows % unit:
        raise UserError(
            f"{where}={num_rows} rows do not divide into {num_microbatches} micro-batches over {shards} devices"
            f" (mesh data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}); make it a multiple of {unit}."
        )


def host_part(mesh: Mesh, num_rows: int) -> tuple[int, int]:
    """Returns (index, count): of `count` equal parts of the rows, the devices of this host hold part `index`."""
    slices = batch_sharding(mesh).addressable_devices_indices_map((num_rows,)).values()
    bounds = [rows[0].indices(num_rows) for rows in slices]
    first, last = min(b[0] for b in bounds), max(b[1] for b in bounds)
    return first // (last - first), num_rows // (last - first)


def rows_to_mesh(batch: Any, mesh: Mesh) -> Any:
    """Joins the rows that each host holds, a tree of numpy arrays, into one global batch on the mesh."""
    sharding = batch_sharding(mesh)
    return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch)
