"""Which tensor lies in which safetensors file: read from a folder, kept beside a checkpoint, used again on export."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from phi4r.errors import UserError

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

DTYPES: dict[str, np.dtype] = {  # safetensors names of the dtypes that parameters come in
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of one stored tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        """Size on disk."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Size of one row, of the first axis."""
        return self.num_bytes // max(self.shape[0], 1)


@dataclasses.dataclass(frozen=True)
class ShardLayout:
    """The order of tensors in files. The same layout and the same tensors give the same bytes.

    Attributes:
      files: file name -> names of its tensors, in the order of their bytes.
      file_metadata: file name -> the `__metadata__` of its header (Hugging Face asks for `{"format": "pt"}`).
      index_metadata: the `metadata` of the index file; None for a folder of one file without an index.
    """

    files: Mapping[str, tuple[str, ...]]
    file_metadata: Mapping[str, Mapping[str, str]]
    index_metadata: Mapping[str, Any] | None

    @property
    def tensor_names(self) -> frozenset[str]:
        """The names of all tensors."""
        return frozenset(name for names in self.files.values() for name in names)

    def to_json(self) -> dict[str, Any]:
        """Returns the layout as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ShardLayout":
        """Reads what `to_json` returned."""
        files = {name: tuple(tensors) for name, tensors in values["files"].items()}
        return cls(files, values["file_metadata"], values["index_metadata"])


def default_layout(specs: Mapping[str, TensorSpec], *, max_file_bytes: int = 5_000_000_000) -> ShardLayout:
    """Fills files of at most `max_file_bytes` in the order of `specs`, as Hugging Face does.

    A tensor larger than that has a file to itself. Inside a file the tensors are sorted by width of dtype and name.
    """
    groups: list[list[str]] = [[]]
    room = max_file_bytes
    for name, spec in specs.items():
        if groups[-1] and spec.num_bytes > room:
            groups.append([])
            room = max_file_bytes
        groups[-1].append(name)
        room -= spec.num_bytes
    total = len(groups)
    names = [SINGLE_FILE] if total == 1 else [f"model-{i + 1:05d}-of-{total:05d}.safetensors" for i in range(total)]
    return ShardLayout(
        files={
            file: tuple(sorted(group, key=lambda name: (-specs[name].dtype.itemsize, name)))
            for file, group in zip(names, groups, strict=True)
        },
        file_metadata={file: {"format": "pt"} for file in names},
        index_metadata=None if total == 1 else {},
    )


def fitting_layout(layout: ShardLayout | None, specs: Mapping[str, TensorSpec]) -> ShardLayout:
    """Returns the layout of the folder that a model came from where it names the same tensors, else the default."""
    return layout if layout is not None and layout.tensor_names == specs.keys() else default_layout(specs)


def dtype_named(name: str, where: str) -> np.dtype:
    """Returns the dtype with the safetensors name `name` ("BF16").

    Raises:
      UserError: if parameters cannot be of that dtype; `where` names the tensor.
    """
    if name not in DTYPES:
        raise UserError(
            f"{where} has dtype {name}; phi4r reads {', '.join(DTYPES)}: convert the folder to one of them."
        )
    return DTYPES[name]
