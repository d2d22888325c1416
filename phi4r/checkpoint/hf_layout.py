"""ONE table between Hugging Face tensors and our parameter tree, used in both directions.

Hugging Face stores matrices as [output, input], one for each layer, and for model type phi3 it fuses q, k, v and gate,
up by rows. Our tree stores [input, output] with heads as an axis of their own, layers stacked on axis 0, and nothing
fused, because a fused qkv does not split along tensor shards. A row of `_TABLE` says both sides in the letters of
`phi4r.typing`:

    ("layers/attn/k", "self_attn.k_proj", "KH D", "DKH")

reads: the rows of `self_attn.k_proj` run over K and H and its columns over D; our leaf is [D K H].
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from phi4r.checkpoint.shards import TensorSpec
from phi4r.errors import UserError
from phi4r.model.config import ModelConfig

_TABLE = (
    ("embedding", "model.embed_tokens", "V D", "VD"),
    ("layers/attn_norm/scale", "input_layernorm", "D", "D"),
    ("layers/attn/q", "self_attn.q_proj", "KQH D", "DKQH"),
    ("layers/attn/k", "self_attn.k_proj", "KH D", "DKH"),
    ("layers/attn/v", "self_attn.v_proj", "KH D", "DKH"),
    ("layers/attn/o", "self_attn.o_proj", "D KQH", "KQHD"),
    ("layers/mlp_norm/scale", "post_attention_layernorm", "D", "D"),
    ("layers/mlp/gate", "mlp.gate_proj", "F D", "DF"),
    ("layers/mlp/up", "mlp.up_proj", "F D", "DF"),
    ("layers/mlp/down", "mlp.down_proj", "D F", "FD"),
    ("final_norm/scale", "model.norm", "D", "D"),
    ("lm_head", "lm_head", "V D", "DV"),
)

_FUSED = {  # model type phi3: tensors of the table that are row blocks of one tensor, in the order of the table
    "self_attn.q_proj": "self_attn.qkv_proj",
    "self_attn.k_proj": "self_attn.qkv_proj",
    "self_attn.v_proj": "self_attn.qkv_proj",
    "mlp.gate_proj": "mlp.gate_up_proj",
    "mlp.up_proj": "mlp.gate_up_proj",
}


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A leaf of the parameter tree and the rows of Hugging Face tensors that it is made of.

    Attributes:
      path: place in the tree, "layers/attn/q".
      shape: of the whole leaf, layers included.
      names: the tensors, one for each layer; a single one for leaves outside the layers.
      first_row: where the rows of this leaf begin in each tensor.
      matrix_shape: shape of those rows.
      axes_shape: the same with heads as an axis of their own.
      order: permutation from `axes_shape` to the axes of the leaf.
      embed_axis: which of `axes_shape` is D, the axis that meshes divide among hosts.
    """

    path: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    first_row: int
    matrix_shape: tuple[int, ...]
    axes_shape: tuple[int, ...]
    order: tuple[int, ...]
    embed_axis: int

    @property
    def stacked(self) -> bool:
        """Whether axis 0 of the leaf is the layers."""
        return len(self.shape) > len(self.order)

    @property
    def inverse_order(self) -> tuple[int, ...]:
        """Permutation from the axes of the leaf (layers aside) to `axes_shape`."""
        return tuple(self.order.index(axis) for axis in range(len(self.order)))

    def rows_of(self, tensor: np.ndarray) -> np.ndarray:
        """Returns the rows of one tensor that belong to the leaf, as `axes_shape`: a view, nothing is read."""
        return tensor[self.first_row : self.first_row + self.matrix_shape[0]].reshape(self.axes_shape)

    def from_tensor(self, tensor: np.ndarray) -> np.ndarray:
        """Returns the part of the leaf that one tensor holds, as a view."""
        return self.rows_of(tensor).transpose(self.order)

    def to_rows(self, part: Any) -> Any:
        """Returns rows of the tensor from a part of the leaf, of numpy or JAX: the inverse of `from_tensor`."""
        return part.transpose(self.inverse_order).reshape(self.matrix_shape)


def hf_leaves(config: ModelConfig, *, fused: bool) -> tuple[Leaf, ...]:
    """Returns every leaf of the parameter tree with its tensors.

    Args:
      config: the shape of the model.
      fused: whether q, k, v and gate, up share a tensor (model type phi3), or not (llama).
    """
    sizes = {
        "V": config.vocab_size,
        "D": config.embed_dim,
        "K": config.num_kv_heads,
        "Q": config.num_heads // config.num_kv_heads,
        "H": config.head_dim,
        "F": config.mlp_dim,
    }
    leaves = []
    rows_before: dict[str, int] = {}  # rows that the leaves above take of a shared tensor
    for path, name, matrix_axes, leaf_axes in _TABLE:
        if path == "lm_head" and config.tied_embeddings:
            continue
        name = _FUSED.get(name, name) if fused else name
        matrix_shape = tuple(math.prod(sizes[axis] for axis in group) for group in matrix_axes.split())
        letters = matrix_axes.replace(" ", "")
        shape = tuple(sizes[axis] for axis in leaf_axes)
        stacked = path.startswith("layers/")
        layers = [f"model.layers.{layer}.{name}.weight" for layer in range(config.num_layers)]
        leaves.append(
            Leaf(
                path=path,
                shape=(config.num_layers, *shape) if stacked else shape,
                names=tuple(layers) if stacked else (f"{name}.weight",),
                first_row=rows_before.get(name, 0),
                matrix_shape=matrix_shape,
                axes_shape=tuple(sizes[axis] for axis in letters),
                order=tuple(letters.index(axis) for axis in leaf_axes),
                embed_axis=letters.index("D"),
            )
        )
        rows_before[name] = rows_before.get(name, 0) + matrix_shape[0]
    return tuple(leaves)


def tensor_shapes(leaves: tuple[Leaf, ...]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor that the leaves are made of, in the order of a Hugging Face state dict."""
    shapes: dict[str, tuple[int, ...]] = {}
    for leaf in leaves:
        for name in leaf.names:
            rows = leaf.first_row + leaf.matrix_shape[0]  # the last leaf of a shared tensor ends where it ends
            shapes[name] = (rows, *leaf.matrix_shape[1:])
    first, last = -1, max(len(leaf.names) for leaf in leaves)
    place = {name: layer for leaf in leaves if leaf.stacked for layer, name in enumerate(leaf.names)}
    place["model.embed_tokens.weight"] = first
    return dict(sorted(shapes.items(), key=lambda item: place.get(item[0], last)))


def leaf_dtypes(leaves: tuple[Leaf, ...], specs: Mapping[str, TensorSpec], where: str) -> dict[str, np.dtype]:
    """Checks stored tensors against the table three ways, and returns the dtype of every leaf by path.

    Every tensor of the table must be there, none may be left over, and all shapes must be equal.

    Args:
      leaves: from `hf_leaves`.
      specs: what is stored.
      where: the folder, for messages.

    Raises:
      UserError: naming the first tensor that is missing, left over, of another shape, or of another dtype than the same
        tensor of the first layer.
    """
    expected = tensor_shapes(leaves)
    mend = "config.json and weights must be of the same model"
    for name in expected:
        if name not in specs:
            raise UserError(f"{where} lacks tensor {name}; {mend}.")
    for name, spec in specs.items():
        if name not in expected:
            raise UserError(f"{where} holds tensor {name}, which this architecture does not have; {mend}.")
        if spec.shape != expected[name]:
            raise UserError(f"{where}: tensor {name} has shape {spec.shape}, not {expected[name]}; {mend}.")
    dtypes = {}
    for leaf in leaves:
        dtypes[leaf.path] = specs[leaf.names[0]].dtype
        for name in leaf.names:
            if specs[name].dtype != dtypes[leaf.path]:
                raise UserError(
                    f"{where}: tensor {name} is {specs[name].dtype}, but {leaf.names[0]} is {dtypes[leaf.path]}; "
                    "layers are stacked, so save them in one dtype."
                )
    return dtypes
