"""Before the first step of a training loop: sizes checked, the shape read, parameters and rows put on the mesh."""

import dataclasses
import os
import pathlib
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from phi4r.checkpoint.hf_files import CONFIG_FILE, parse_config, read_json
from phi4r.errors import UserError
from phi4r.model.config import Attention, ModelConfig, Remat
from phi4r.model.rope_scaling import RopeSettings
from phi4r.model.transformer import abstract_params, param_axes
from phi4r.sharding import batch_sharding, batch_shards, param_shardings, put_whole, token_sharding, zigzag_order
from phi4r.typing import Params


@dataclasses.dataclass(frozen=True)
class ModelOverrides:
    """Numerics and positions of training, on top of the shape that the model folder gives.

    Attributes:
      dtype: of activations.
      param_dtype: of the parameters that the optimizer updates; under `lora` of the frozen base, for which bfloat16 is
        enough. An update of less than 1/512 of a trained weight in bfloat16 is rounded away, and at learning rates of
        1e-5 most are: see `optimizer.rounding`.
      attention: backend of attention over whole rows; "auto" chooses by device and shape.
      remat: what the blocks keep for the backward pass (`phi4r.model.remat`), from "none" (recompute nothing) over
        "dots", "attention" and "full" (keep only the inputs of the blocks) to "offload" (keep them on the host).
      rope: how rows longer than the positions of the model are rotated.
    """

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    param_dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Attention = "auto"
    remat: Remat = "full"
    rope: RopeSettings = dataclasses.field(default_factory=RopeSettings)

    def apply(self, config: ModelConfig) -> ModelConfig:
        """Returns the shape with these numerics and positions.

        Raises:
          UserError: if `rope` does not fit the model.
        """
        numerics = {name: getattr(self, name) for name in ("dtype", "param_dtype", "attention", "remat")}
        return config.replace(**numerics).with_rope(self.rope)


def read_model_config(folder: str | os.PathLike, overrides: ModelOverrides) -> ModelConfig:
    """Reads the shape of the model in `folder` (Hugging Face or Orbax), with `overrides` on top.

    Raises:
      UserError: if there is no model, or one of another architecture.
    """
    folder = pathlib.Path(folder)
    return overrides.apply(parse_config(read_json(folder / CONFIG_FILE), folder))


def params_on_mesh(config: ModelConfig, mesh: Mesh) -> Params:
    """Returns the parameters as ShapeDtypeStructs with their shardings: what a checkpoint is restored into."""
    shapes = abstract_params(config)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        param_shardings(mesh, param_axes(config), shapes),
    )


def check_rows(mesh: Mesh, num_rows: int, row_length: int, *, num_microbatches: int = 1, where: str) -> None:
    """Refuses a batch that does not spread evenly, before anything is allocated.

    Args:
      mesh: whose `data` and `fsdp` axes share the rows, and whose `context` axis the columns.
      num_rows: rows of the global batch.
      row_length: tokens of a row.
      num_microbatches: parts of the batch, each of which is spread over the mesh.
      where: the name of the setting, for the message.

    Raises:
      UserError: if `num_rows` is not a multiple of shards times micro-batches, or `row_length` not one of the parts.
    """
    shards, context = batch_shards(mesh), mesh.shape["context"]
    unit = shards * num_microbatches
    if num_rows % unit:
        raise UserError(
            f"{where}={num_rows} rows do not divide into {num_microbatches} micro-batches over {shards} devices"
            f" (mesh data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']}); make it a multiple of {unit}."
        )
    if context > 1 and row_length % (2 * context):
        raise UserError(
            f"rows of {row_length} tokens do not divide into two parts for each of context={context} devices; make "
            f"the length a multiple of {2 * context}."
        )


def host_part(mesh: Mesh, num_rows: int) -> tuple[int, int]:
    """Returns (index, count): of `count` equal parts of the rows, the devices of this host hold part `index`.

    Raises:
      UserError: if its rows are not one part.
    """
    slices = batch_sharding(mesh).addressable_devices_indices_map((num_rows,)).values()
    bounds = {rows[0].indices(num_rows)[:2] for rows in slices}
    first, last = min(b[0] for b in bounds), max(b[1] for b in bounds)
    if sum(b[1] - b[0] for b in bounds) != last - first:
        raise UserError(
            "this mesh gives a host rows that do not lie together; order the axes so that hosts divide fsdp."
        )
    return first // (last - first), num_rows // (last - first)


def host_rows_to_mesh(batch: Any, mesh: Mesh) -> Any:
    """Joins the rows that each host holds into one global batch on the mesh; see `rows_to_mesh`."""
    _, num_parts = host_part(mesh, batch_shards(mesh))

    def put(rows: np.ndarray) -> jax.Array:
        shape = (rows.shape[0] * num_parts, *rows.shape[1:])
        rows, sharding = _for_mesh(rows, mesh)
        return jax.make_array_from_process_local_data(sharding, rows, shape)

    return jax.tree.map(put, batch)


def rows_to_mesh(batch: Any, mesh: Mesh) -> Any:
    """Puts rows that every host has whole on the mesh, as a batch of arrays [B] or [B T].

    Rows go over `data` and `fsdp`, and columns, in zigzag order, over `context` (`phi4r.sharding`).
    """

    def put(rows: np.ndarray) -> jax.Array:
        return put_whole(*_for_mesh(np.asarray(rows), mesh))

    return jax.tree.map(put, batch)


def _for_mesh(rows: np.ndarray, mesh: Mesh) -> tuple[np.ndarray, NamedSharding]:
    """Returns rows with their columns in the order of the mesh, and their sharding."""
    if rows.ndim == 1:
        return rows, batch_sharding(mesh)
    return rows[:, zigzag_order(rows.shape[1], mesh.shape["context"])], token_sharding(mesh)
