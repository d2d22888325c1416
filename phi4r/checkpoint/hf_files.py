"""Everything of a Hugging Face folder that is not a weight: config, generation defaults, tokenizer, chat template."""

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from phi4r.checkpoint.shards import ShardLayout
from phi4r.errors import UserError
from phi4r.model.config import ModelConfig

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
LAYOUT_FILE = "safetensors_layout.json"  # of a params checkpoint: how the source folder laid out its files
MANIFEST_FILE = "safetensors_manifest.json"  # of a params checkpoint: checksum, shape and dtype of every tensor

_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".index.json")
_NUMERICS = ("dtype", "param_dtype", "attention", "remat", "init_std")  # may differ from config.json without harm
_LENGTH = ("max_positions", "longrope")  # what `rope` of a run may change (`phi4r.model.rope_scaling`)
_HF_LENGTH = ("max_position_embeddings", "original_max_position_embeddings", "rope_scaling")
# Where config.json is silent, transformers assumes the ids of the tokenizer of Phi-3.
_NO_TOKENS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the JSON object in `path`.

    Raises:
      UserError: if it is missing or not an object.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; give a complete Hugging Face folder or Orbax checkpoint of phi4r.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object; copy or download the file again.")
    return values


def write_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
    """Writes JSON as Hugging Face does: two spaces, a final newline, nothing escaped that need not be."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def parse_config(hf_config: Mapping[str, Any], where: pathlib.Path, **overrides: Any) -> ModelConfig:
    """Returns the ModelConfig of a parsed config.json that lies in the folder `where`.

    Raises:
      UserError: for another architecture or a missing field.
    """
    try:
        return ModelConfig.from_hf(hf_config, **overrides)
    except KeyError as error:
        raise UserError(f"{where / CONFIG_FILE} lacks the field {error}; take the model's own config.json.") from None


def is_fused(hf_config: Mapping[str, Any]) -> bool:
    """Returns whether the folder stores q, k, v and gate, up fused (model type phi3) or apart (llama)."""
    return hf_config["model_type"] == "phi3"


def carry_files(source: str | os.PathLike, destination: pathlib.Path) -> None:
    """Copies the files at the top of `source` that are not weights, byte for byte: tokenizer, template, licence."""
    for path in sorted(pathlib.Path(source).iterdir()):
        ours = path.name in (LAYOUT_FILE, MANIFEST_FILE)
        hidden = path.name.startswith(".")
        if path.is_file() and not (ours or hidden or path.name.endswith(_WEIGHT_SUFFIXES)):
            shutil.copyfile(path, destination / path.name)


def write_layout(folder: pathlib.Path, layout: ShardLayout) -> None:
    """Stores the layout of the source's files beside an Orbax checkpoint."""
    write_json(folder / LAYOUT_FILE, layout.to_json())


def read_layout(folder: pathlib.Path) -> ShardLayout | None:
    """Returns the layout that `write_layout` stored, or None where there is none."""
    path = folder / LAYOUT_FILE
    return ShardLayout.from_json(read_json(path)) if path.is_file() else None


def write_config(
    folder: pathlib.Path, config: ModelConfig, dtype: np.dtype, *, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Makes config.json in `folder` tell the truth: the carried one is kept where it does, fields are set where not.

    Args:
      folder: where the file is, if it was carried along from a source; else it is written as model type phi3.
      config: the shape of the model.
      dtype: of the weights beside it.
      extra: more fields, as `eos_token_id`.

    Returns:
      What the file holds now.

    Raises:
      UserError: if the carried file describes another shape than `config`.
    """
    path = folder / CONFIG_FILE
    carried = read_json(path) if path.is_file() else None
    values = {**config.to_hf(), **_NO_TOKENS} if carried is None else _with_length(carried, config, folder)
    values = {**values, **(extra or {})}
    for key in {"dtype", "torch_dtype"} & set(values):
        values[key] = dtype.name
    if values != carried:
        write_json(path, values)
    return values


def _with_length(carried: Mapping[str, Any], config: ModelConfig, folder: pathlib.Path) -> dict[str, Any]:
    """Returns the carried config.json, with the positions and the scaling of `config` where these are others.

    Raises:
      UserError: if anything else of the shape differs.
    """
    source = parse_config(carried, folder)
    ours, theirs = _comparable(config), _comparable(source)
    _refuse_other_shape(ours, theirs)
    values = dict(carried)
    if any(ours[name] != theirs[name] for name in _LENGTH):
        values.pop("rope_parameters", None)  # the new spelling, which would win over the one written here
        written = config.to_hf()
        values.update({key: written[key] for key in (*_HF_LENGTH, "rope_theta", "partial_rotary_factor")})
    return values


def _comparable(config: ModelConfig) -> dict[str, Any]:
    """Returns the fields of a config that config.json speaks of."""
    values = dataclasses.asdict(config)
    (values["longrope"] or {}).pop("use", None)
    return {name: value for name, value in values.items() if name not in _NUMERICS}


def _refuse_other_shape(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Raises UserError at the first field in which the two differ, but for positions and their scaling."""
    for name in ours.keys() - set(_LENGTH):
        if ours[name] != theirs[name]:
            raise UserError(
                f"the model has {name}={ours[name]}, but config.json of the source folder says {theirs[name]}; "
                "give the folder that this model was loaded from."
            )
