"""The manifest of a params checkpoint: SHA-256, shape and dtype of every tensor, by its Hugging Face name.

    "model.norm.weight": {"sha256": "9f86...", "shape": [5120], "dtype": "bfloat16"}

The checksum is that of the bytes of the tensor in a safetensors file.
"""

import hashlib
import pathlib
from collections.abc import Mapping

import numpy as np

from phi4r.checkpoint.hf_files import MANIFEST_FILE, read_json, write_json
from phi4r.checkpoint.shards import TensorSpec
from phi4r.errors import UserError


def update_digest(digest: "hashlib._Hash", rows: np.ndarray) -> None:
    """Adds the bytes of `rows`, which are contiguous."""
    digest.update(rows.reshape(-1).view(np.uint8).data)


def write_manifest(folder: pathlib.Path, specs: Mapping[str, TensorSpec], digests: Mapping[str, str]) -> None:
    """Writes the manifest.

    Args:
      folder: of the params checkpoint.
      specs: shape and dtype of every tensor.
      digests: their checksums.
    """
    values = {
        name: {"sha256": digests[name], "shape": list(spec.shape), "dtype": spec.dtype.name}
        for name, spec in specs.items()
    }
    write_json(folder / MANIFEST_FILE, values)


def read_digests(folder: pathlib.Path, specs: Mapping[str, TensorSpec]) -> dict[str, str]:
    """Returns the checksum of every tensor.

    Raises:
      UserError: if there is no manifest, or it is not that of tensors with these shapes and dtypes.
    """
    values = read_json(folder / MANIFEST_FILE)
    digests = {}
    for name, spec in specs.items():
        entry = values.get(name)
        if not isinstance(entry, dict) or (entry.get("shape"), entry.get("dtype")) != (
            list(spec.shape),
            spec.dtype.name,
        ):
            raise UserError(
                f"{folder / MANIFEST_FILE} does not describe tensor {name} as it is stored; convert or copy it again."
            )
        digests[name] = entry["sha256"]
    return digests
