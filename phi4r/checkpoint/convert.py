"""Between Hugging Face folders and Orbax checkpoints, without a device and without the whole model in memory.

Both directions hold one leaf of the stacked tree at a time (for phi-4 at most 7.3 GB of 29.3 GB, twice that while Orbax
encodes it), keep the stored dtype, and give back every tensor byte for byte. The Orbax checkpoint knows no mesh:
`phi4r.checkpoint.release.load_model` reads it onto any.
"""

import os
import pathlib

import numpy as np

from phi4r.checkpoint import hf_files, params_store
from phi4r.checkpoint.hf_layout import Leaf, hf_leaves, leaf_dtypes
from phi4r.checkpoint.hf_weights import write_weights
from phi4r.checkpoint.reasoning import write_reasoning_files
from phi4r.checkpoint.safetensors_reader import SafetensorsFolder
from phi4r.checkpoint.staging import staged_folder
from phi4r.metrics.progress import Progress
from phi4r.text.reasoning import REASONING_SYSTEM_MESSAGE


def hf_to_orbax(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    *,
    reasoning: bool = False,
    system_message: str | None = REASONING_SYSTEM_MESSAGE,
    dtype: str | None = None,
) -> None:
    """Converts a Hugging Face folder into a params checkpoint (see `phi4r.checkpoint.params_store`).

    Args:
      source: folder with config.json and safetensors, of model type phi3 or llama.
      destination: must not exist, or be empty; it appears whole or not at all.
      reasoning: make of phi-4 what SFT starts from (section 3): `<think>` and `</think>` in place of two unused tokens,
        rope theta and context doubled, the generation defaults of the release.
      system_message: the fixed system turn of the chat template with `reasoning`; None to render a caller's instead.
      dtype: name of a dtype to store instead of the source's.

    Raises:
      UserError: for a damaged, incomplete or unsuitable source, or a destination that cannot be written.
    """
    source = pathlib.Path(source)
    hf_config = hf_files.read_json(source / hf_files.CONFIG_FILE)
    config = hf_files.parse_config(hf_config, source)
    tensors = SafetensorsFolder(source)
    leaves = hf_leaves(config, fused=hf_files.is_fused(hf_config))
    dtypes = leaf_dtypes(leaves, tensors.specs, str(source))
    with staged_folder(destination) as staging:
        hf_files.carry_files(source, staging)
        hf_files.write_layout(staging, tensors.layout)
        if reasoning:
            write_reasoning_files(source, staging, system_message=system_message)
        if dtype is not None:
            carried = hf_files.read_json(staging / hf_files.CONFIG_FILE)
            hf_files.write_config(staging, hf_files.parse_config(carried, staging), np.dtype(dtype))
        with Progress("convert", total=len(leaves)) as progress, params_store.leaf_writer(staging) as write:
            for count, leaf in enumerate(leaves, start=1):
                whole = (slice(None),) * len(leaf.shape)
                write(leaf.path, leaf.read(tensors, whole, np.dtype(dtype or dtypes[leaf.path])))
                progress.update(count)


def orbax_to_hf(source: str | os.PathLike, destination: str | os.PathLike, *, dtype: str | None = None) -> None:
    """Converts a params checkpoint into a Hugging Face folder, in the file layout of the folder that it came from.

    Args:
      source: folder written by `hf_to_orbax` or `release.save_params`.
      destination: must not exist, or be empty; it appears whole or not at all.
      dtype: name of a dtype to write instead of the stored one.

    Raises:
      UserError: for a damaged or incomplete source, or a destination that cannot be written.
    """
    source = pathlib.Path(source)
    hf_config = hf_files.read_json(source / hf_files.CONFIG_FILE)
    config = hf_files.parse_config(hf_config, source)
    leaves = hf_leaves(config, fused=hf_files.is_fused(hf_config))
    specs = params_store.stored_specs(source)
    params_store.check_leaves(leaves, specs, source)
    dtypes = {path: np.dtype(dtype or spec.dtype) for path, spec in specs.items()}

    def get_leaf(leaf: Leaf) -> np.ndarray:
        spec = specs[leaf.path]
        return params_store.load_leaf(source, leaf.path, np.broadcast_to(np.zeros((), spec.dtype), spec.shape))

    with staged_folder(destination) as staging:
        hf_files.carry_files(source, staging)
        if dtype is not None:
            hf_files.write_config(staging, config, np.dtype(dtype))
        layout = hf_files.read_layout(source)
        write_weights(staging, leaves, dtypes, get_leaf, layout=layout, stage="convert")
