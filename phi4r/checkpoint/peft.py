"""Adapter folders in the format of PEFT: adapter_config.json and adapter_model.safetensors.

`peft.PeftModel.from_pretrained(model, folder)` puts them onto the Hugging Face model that training started from. PEFT
stores A as [r, input] and B as [output, r]. For model type phi3 the matrices of a group are rows of one tensor: their B
go below each other, and the group's A is theirs. For llama each matrix gets a copy of A.
"""

import os
import pathlib

import numpy as np

from phi4r.checkpoint import hf_files
from phi4r.checkpoint.hf_layout import hf_leaves
from phi4r.checkpoint.safetensors_writer import SafetensorsWriter
from phi4r.checkpoint.shards import ShardLayout, TensorSpec
from phi4r.checkpoint.staging import staged_folder
from phi4r.model.config import ModelConfig
from phi4r.model.lora import matrix_adapters
from phi4r.typing import Params

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."


def save_peft_folder(
    folder: str | os.PathLike, adapter: Params, *, config: ModelConfig, base_folder: str | os.PathLike
) -> None:
    """Saves adapters as PEFT does, in float32, atomically.

    Args:
      folder: must not exist, or be empty.
      adapter: the stacked adapters.
      config: with `lora`.
      base_folder: of the model that they belong to; its config.json says whether its matrices are fused, and its path
        is written down as `base_model_name_or_path`.

    Raises:
      UserError: if `folder` is taken or cannot be written.
    """
    fused = hf_files.is_fused(hf_files.read_json(pathlib.Path(base_folder) / hf_files.CONFIG_FILE))
    tensors = peft_tensors(adapter, config, fused=fused)
    specs = {name: TensorSpec(tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    layout = ShardLayout({WEIGHTS_FILE: tuple(sorted(specs))}, {WEIGHTS_FILE: {"format": "pt"}}, None)
    with staged_folder(folder) as staging:
        hf_files.write_json(staging / CONFIG_FILE, _config(config, tensors, str(base_folder)))
        with SafetensorsWriter(staging, layout, specs) as writer:
            for name, tensor in tensors.items():
                writer.write(name, tensor)


def peft_tensors(adapter: Params, config: ModelConfig, *, fused: bool) -> dict[str, np.ndarray]:
    """Returns the tensors of a PEFT adapter by name.

    Args:
      adapter: the stacked adapters.
      config: with `lora`.
      fused: whether q, k, v and gate, up share a tensor in the base (model type phi3).
    """
    leaves = {leaf.path: leaf for leaf in hf_leaves(config, fused=fused)}
    rank = config.lora.rank
    outputs: dict[str, list[np.ndarray]] = {}
    inputs: dict[str, np.ndarray] = {}
    for path, (a, b) in matrix_adapters(adapter, config.lora.targets).items():
        a, b = np.asarray(a), np.asarray(b)
        for layer, tensor in enumerate(leaves[path].names):
            name = _PREFIX + tensor.removesuffix(".weight")
            inputs[f"{name}.lora_A.weight"] = a[layer].reshape(-1, rank).T
            outputs.setdefault(f"{name}.lora_B.weight", []).append(b[layer].reshape(rank, -1).T)
    return {**inputs, **{name: np.concatenate(parts) for name, parts in outputs.items()}}


def _config(config: ModelConfig, tensors: dict[str, np.ndarray], base: str) -> dict[str, object]:
    """Returns the adapter_config.json of a plain LoRA."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.lora.rank,
        "lora_alpha": config.lora.alpha,
        "target_modules": sorted({name.split(".lora_")[0].rpartition(".")[2] for name in tensors}),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_rslora": False,
        "modules_to_save": None,
        "inference_mode": True,
    }
