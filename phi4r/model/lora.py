"""Low-rank adapters: y = x W + (alpha / rank) (x A) B with W frozen (LoRA, arXiv 2106.09685).

The adapters are leaves of the parameter tree beside the matrices that they adapt, stacked over the layers as all are:

    layers/attn/qkv_lora_a [L D r]        q_lora_b [L r K Q H], k_lora_b, v_lora_b [L r K H]
    layers/attn/o_lora_a [L K Q H r]      o_lora_b [L r D]
    layers/mlp/gate_up_lora_a [L D r]     gate_lora_b, up_lora_b [L r F]
    layers/mlp/down_lora_a [L F r]        down_lora_b [L r D]

q, k and v share one A, and gate and up share one: so an adapter is what PEFT makes of the fused `qkv_proj` and
`gate_up_proj` of Phi-3, and the exported one is exact at the same rank.

A tree without these leaves is the base model. Training differentiates the adapters alone (`split_adapter`), and the
base joins them in the loss (`join_adapter`): no leaf of the base is ever copied or stacked again.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from phi4r.errors import UserError
from phi4r.typing import Array, Params

Target = Literal["qkv", "o", "gate_up", "down"]

_MARK = "_lora_"
_AXES = {"D": "embed", "K": "kv_heads", "Q": "queries", "H": "head_dim", "F": "mlp"}


class Group(NamedTuple):
    """Matrices that multiply the same input, and share their A.

    Attributes:
      module: where they lie in a layer.
      inputs: axes of the input, in the letters of `phi4r.typing`.
      outputs: the matrices and the axes of their outputs.
    """

    module: str
    inputs: str
    outputs: dict[str, str]


GROUPS = {
    "qkv": Group("attn", "D", {"q": "KQH", "k": "KH", "v": "KH"}),
    "o": Group("attn", "KQH", {"o": "D"}),
    "gate_up": Group("mlp", "D", {"gate": "F", "up": "F"}),
    "down": Group("mlp", "F", {"down": "D"}),
}


@dataclasses.dataclass(frozen=True)
class Lora:
    """The shape of the adapters of a model.

    Attributes:
      rank: r.
      alpha: the numerator of the factor alpha / rank.
      targets: which groups of matrices have an adapter.
    """

    rank: int
    alpha: float
    targets: tuple[Target, ...] = tuple(GROUPS)

    def __post_init__(self):
        if self.rank < 1:
            raise UserError(f"lora.rank={self.rank} must be at least 1.")
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise UserError(f"lora.targets={list(self.targets)} must name each of {', '.join(GROUPS)} at most once.")

    @property
    def scale(self) -> float:
        """The factor on every product of an adapter."""
        return self.alpha / self.rank


class Adapter(NamedTuple):
    """The adapter of one group in one layer, in the dtype of activations."""

    a: Array  # [inputs r]
    bs: tuple[Array, ...]  # [r outputs] of each matrix, times the scale


def declare_adapter(module: nn.Module, target: Target) -> Adapter | None:
    """Declares the adapter of one group as parameters of `module`, always float32; None where the model has none."""
    config = module.config
    if config.lora is None or target not in config.lora.targets:
        return None

    def leaf(name: str, letters: str) -> Array:
        init = nn.with_logical_partitioning(_initializer(name), tuple(_AXES.get(letter) for letter in letters))
        return module.param(name, init, _shape(letters, config), jnp.float32)

    group, scale = GROUPS[target], config.lora.scale
    a = leaf(_a_name(target), group.inputs + "r").astype(config.dtype)
    bs = [leaf(_b_name(matrix), "r" + axes) for matrix, axes in group.outputs.items()]
    return Adapter(a, tuple((b * scale).astype(config.dtype) for b in bs))


def adapted(x: Array, products: tuple[Array, ...], adapter: Adapter | None) -> tuple[Array, ...]:
    """Adds what the adapter makes of `x` to the products of `x` with the matrices of a group.

    Args:
      x: [B T inputs].
      products: [B T outputs] of each matrix.
      adapter: of the group, or None.
    """
    if adapter is None:
        return products
    # Behind the barrier x is another array to the compiler, which would otherwise join both products of x into one, and
    # copy the large matrix beside A for that: in every decode step all weights.
    low = jnp.tensordot(jax.lax.optimization_barrier(x), adapter.a, axes=adapter.a.ndim - 1)
    return tuple(y + jnp.tensordot(low, b, axes=1) for y, b in zip(products, adapter.bs, strict=True))


def num_adapter_params(config: Any) -> int:
    """Returns how many numbers the adapters of a ModelConfig have."""
    groups = [GROUPS[target] for target in config.lora.targets] if config.lora else []
    axes = [axes for group in groups for axes in (group.inputs, *group.outputs.values())]
    return config.num_layers * sum(math.prod(_shape("r" + letters, config)) for letters in axes)


# Trees


def is_adapter_leaf(name: str) -> bool:
    """Whether a leaf of a layer belongs to an adapter, by its own name."""
    return _MARK in name


def split_adapter(params: Params) -> tuple[Params, Params]:
    """Returns (base, adapter): two trees that share the leaves of `params`."""

    def pick(tree: Params, wanted: bool) -> Params:
        parts = {name: pick(x, wanted) if isinstance(x, dict) else x for name, x in tree.items()}
        return {
            name: part
            for name, part in parts.items()
            if (part if isinstance(part, dict) else is_adapter_leaf(name) == wanted)
        }

    return pick(params, False), pick(params, True)


def join_adapter(base: Params, adapter: Params) -> Params:
    """Returns one tree with the leaves of both."""
    joined = dict(base)
    for name, part in adapter.items():
        joined[name] = join_adapter(base[name], part) if isinstance(part, dict) else part
    return joined


def init_adapter(abstract: Params, key: Array) -> Params:
    """Returns fresh adapters, which change nothing yet: B is 0, and A is as PEFT draws it.

    Args:
      abstract: the adapter as ShapeDtypeStructs.
      key: of all their numbers.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(abstract)

    def draw(number: int, path: Any, leaf: Any) -> Array:
        init = _initializer(path[-1].key)
        keys = jax.random.split(jax.random.fold_in(key, number), leaf.shape[0])
        return jax.vmap(lambda key: init(key, leaf.shape[1:], leaf.dtype))(keys)

    return jax.tree.unflatten(structure, [draw(number, *entry) for number, entry in enumerate(leaves)])


def adapter_delta(a: Array, b: Array, scale: float) -> Array:
    """Returns (alpha / rank) A B, float32, in the axes of the matrix: [inputs outputs]."""
    return scale * jnp.tensordot(a, b, axes=1, precision=jax.lax.Precision.HIGHEST)


def matrix_adapters(adapter: Params, targets: tuple[Target, ...]) -> dict[str, tuple[Array, Array]]:
    """Returns A and B of every adapted matrix, by the path of the matrix: {"layers/attn/q": (a, b)}."""
    found = {}
    for target in targets:
        group = GROUPS[target]
        leaves = adapter["layers"][group.module]
        for matrix in group.outputs:
            found[f"layers/{group.module}/{matrix}"] = (leaves[_a_name(target)], leaves[_b_name(matrix)])
    return found


def _a_name(target: str) -> str:
    return f"{target}{_MARK}a"


def _b_name(matrix: str) -> str:
    return f"{matrix}{_MARK}b"


def _shape(letters: str, config: Any) -> tuple[int, ...]:
    """Returns the sizes of axes given as letters; r is the rank."""
    kv_heads, queries = config.heads
    sizes = {
        "D": config.embed_dim,
        "K": kv_heads,
        "Q": queries,
        "H": config.head_dim,
        "F": config.mlp_dim,
        "r": config.lora.rank,
    }
    return tuple(sizes[letter] for letter in letters)


def _initializer(name: str) -> nn.initializers.Initializer:
    """Returns how a leaf of one layer begins: B at 0; A uniform up to 1 / sqrt(inputs), as PEFT's Kaiming draw."""
    if name.endswith("_b"):
        return nn.initializers.zeros

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        bound = 1.0 / math.sqrt(math.prod(shape[:-1]))
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw
