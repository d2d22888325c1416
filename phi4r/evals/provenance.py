"""What a model was, as hashes: two evaluations of one provenance asked the same weights in the same words."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from phi4r.checkpoint.hf_files import CONFIG_FILE, read_json
from phi4r.text.files import TEMPLATE_FILE, read_tokenizer_files
from phi4r.text.template import phi4_template, read_template
from phi4r.typing import Array, Params

_TEMPLATE_FILES = (TEMPLATE_FILE, "chat_template.json")


def model_provenance(folder: str | os.PathLike, params: Params) -> dict[str, str]:
    """Returns hashes of a model folder's config.json, tokenizer and chat template, and of its parameters.

    Where the folder lies does not matter, so a model may be moved between two parts of an evaluation, but not changed.

    Args:
      folder: Hugging Face or Orbax, with its tokenizer.
      params: as loaded from it, on any mesh.

    Raises:
      UserError: if the folder lacks config.json or a tokenizer.
    """
    folder = pathlib.Path(folder)
    tokenizer = {name: data for name, data in read_tokenizer_files(folder).items() if name not in _TEMPLATE_FILES}
    config = json.dumps(read_json(folder / CONFIG_FILE), sort_keys=True)
    template = read_template(folder) or phi4_template()
    return {
        "config": _digest({CONFIG_FILE: config.encode()}),
        "tokenizer": _digest(tokenizer),
        "chat_template": _digest({TEMPLATE_FILE: template.encode()}),
        "weights": weights_fingerprint(params),
    }


def weights_fingerprint(params: Params) -> str:
    """Returns a hash of all parameters, taken where they lie: the bits of a leaf are summed up on its devices.

    The sums are of integers modulo 2^32, so no mesh and no order of summation changes them; the dtype does.
    """
    sums = jax.jit(lambda tree: jax.tree.map(_checksum, tree))(params)
    return _digest({path: str(int(value)).encode() for path, value in flatten_dict(sums, sep="/").items()})


def _checksum(leaf: Array) -> Array:
    """Returns the sum of the bits of every element, each times an odd number that depends on its place."""
    bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")).astype(jnp.uint32)
    for axis in range(leaf.ndim):
        bits = bits * (2 * jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) + 1)
    return bits.sum(dtype=jnp.uint32)


def _digest(parts: Mapping[str, bytes]) -> str:
    """Returns a hash of named parts, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        digest.update(f"{name}\0{len(parts[name])}\0".encode())
        digest.update(parts[name])
    return digest.hexdigest()[:16]
