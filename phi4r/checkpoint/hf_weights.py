"""Writes the weights of a Hugging Face folder from the leaves of a parameter tree, one leaf in memory at a time."""

import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from phi4r.checkpoint.hf_layout import Leaf, tensor_shapes
from phi4r.checkpoint.safetensors_writer import SafetensorsWriter
from phi4r.checkpoint.shards import DTYPE_NAMES, ShardLayout, TensorSpec, default_layout
from phi4r.errors import UserError
from phi4r.metrics.progress import Progress


def write_weights(
    folder: pathlib.Path,
    leaves: tuple[Leaf, ...],
    dtypes: Mapping[str, np.dtype],
    get_leaf: Callable[[Leaf], np.ndarray],
    *,
    layout: ShardLayout | None,
    stage: str,
) -> None:
    """Writes model*.safetensors and, for more than one file, the index.

    Args:
      folder: an existing folder.
      leaves: from `hf_layout.hf_leaves`.
      dtypes: dtype to store, by leaf path.
      get_leaf: returns a leaf as a host array; called once for each, in order.
      layout: of the folder that the model came from, kept where it names the same tensors.
      stage: the word at the start of the progress line.
    """
    specs: dict[str, TensorSpec] = {}
    dtype_of = {name: dtypes[leaf.path] for leaf in leaves for name in leaf.names}
    for name, shape in tensor_shapes(leaves).items():
        specs[name] = TensorSpec(shape, dtype_of[name])
    for path, dtype in dtypes.items():
        if dtype not in DTYPE_NAMES:
            raise UserError(f"parameter {path} is {dtype}, which safetensors folders of this kind do not hold.")
    if layout is None or layout.tensor_names != specs.keys():
        layout = default_layout(specs)
    with Progress(stage, total=len(leaves)) as progress, SafetensorsWriter(folder, layout, specs) as writer:
        for count, leaf in enumerate(leaves, start=1):
            array = get_leaf(leaf)
            parts = array if leaf.stacked else array[None]
            for name, part in zip(leaf.names, parts, strict=True):
                rows = leaf.to_rows(part).astype(dtypes[leaf.path], copy=False)
                writer.write(name, rows, first_row=leaf.first_row)
            progress.update(count)
