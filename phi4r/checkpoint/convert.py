"""Between Hugging Face folders and Orbax checkpoints, without a device and without the whole model in memory.

Both directions copy pieces of 16 MiB, a few at a time, keep the stored dtype, and give back every tensor byte for byte;
the way back compares each with the checksum that the way there wrote down. A conversion that was interrupted goes on
where it was. The Orbax checkpoint knows no mesh: `phi4r.checkpoint.release.load_model` reads it onto any.
"""

import os
import pathlib
import shutil

import numpy as np

from phi4r.checkpoint import hf_files, manifest, params_store
from phi4r.checkpoint.copying import ByteProgress, Pieces, Sink, Source, copy_weights, find_written
from phi4r.checkpoint.hf_layout import hf_leaves, leaf_dtypes
from phi4r.checkpoint.journal import Journal, conversion_key
from phi4r.checkpoint.pieces import tensor_pieces, tensor_specs
from phi4r.checkpoint.reasoning import write_reasoning_files
from phi4r.checkpoint.safetensors_reader import SafetensorsFolder
from phi4r.checkpoint.safetensors_writer import SafetensorsWriter
from phi4r.checkpoint.shards import ShardLayout, fitting_layout
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
    stored = leaf_dtypes(leaves, tensors.specs, str(source))
    dtypes = {path: np.dtype(dtype or stored[path]) for path in stored}
    key = conversion_key(source, dict(to="orbax", reasoning=reasoning, system_message=system_message, dtype=dtype))
    with staged_folder(destination, resume_key=key) as staging, Journal(staging, key) as journal:
        hf_files.carry_files(source, staging)
        hf_files.write_layout(staging, tensors.layout)
        if reasoning:
            write_reasoning_files(source, staging, system_message=system_message)
        if dtype is not None:
            carried = hf_files.read_json(staging / hf_files.CONFIG_FILE)
            hf_files.write_config(staging, hf_files.parse_config(carried, staging), np.dtype(dtype))
        if not journal.done:
            shutil.rmtree(staging / params_store.PARAMS_FOLDER, ignore_errors=True)
            params_store.create_arrays(staging, leaves, dtypes)
        pieces = _in_file_order(tensor_pieces(leaves, dtypes), tensors.layout)
        sink = params_store.ParamsFolder(staging, leaves)
        digests = _copy(tensors, sink, pieces, dtypes, journal)
        manifest.write_manifest(staging, tensor_specs(leaves, dtypes), digests)


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
    params = params_store.ParamsFolder(source, leaves)
    expected = manifest.read_digests(source, tensor_specs(leaves, params.dtypes))
    dtypes = {path: np.dtype(dtype or stored) for path, stored in params.dtypes.items()}
    specs = tensor_specs(leaves, dtypes)
    layout = fitting_layout(hf_files.read_layout(source), specs)
    key = conversion_key(source, dict(to="hf", dtype=dtype))
    with staged_folder(destination, resume_key=key) as staging, Journal(staging, key) as journal:
        hf_files.carry_files(source, staging)
        if dtype is not None:
            hf_files.write_config(staging, config, np.dtype(dtype))
        pieces = _in_file_order(tensor_pieces(leaves, params.dtypes), layout)
        with SafetensorsWriter(staging, layout, specs) as writer:
            _copy(params, writer, pieces, dtypes, journal, expected=expected)


def _copy(
    source: Source,
    sink: Sink,
    pieces: Pieces,
    dtypes: dict[str, np.dtype],
    journal: Journal,
    *,
    expected: dict[str, str] | None = None,
) -> dict[str, str]:
    """Copies what an earlier attempt has not; returns the checksums of all tensors as written."""
    total = sum(cut.num_elements * dtypes[cut.leaf.path].itemsize for cuts in pieces.values() for cut in cuts)
    with Progress("convert (MB)", total=total // 10**6) as line:
        progress = ByteProgress(line)
        kept = find_written(sink, pieces, dtypes, journal=journal, progress=progress)
        rest = {name: cuts for name, cuts in pieces.items() if name not in kept}
        digests = copy_weights(source, sink, rest, dtypes, journal=journal, progress=progress, expected=expected)
    return {**{name: journal.done[name] for name in kept}, **digests}


def _in_file_order(pieces: Pieces, layout: ShardLayout) -> Pieces:
    """Returns the pieces in the order of the safetensors files, so that these are read and written front to back."""
    return {name: pieces[name] for names in layout.files.values() for name in names}
