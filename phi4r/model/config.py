"""The shape of a model: every member of the Phi-3 / Phi-4 family, and Llama-shaped relatives, as one dataclass."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from phi4r.errors import UserError
from phi4r.model.int8 import DecodeCache
from phi4r.model.lora import Lora, num_adapter_params
from phi4r.model.rope_scaling import LongRope, RopeSettings, read_hf_rope, write_hf_rope

Attention = Literal["auto", "dense", "blockwise", "splash", "triton"]
Remat = Literal["none", "dots", "attention", "full", "offload"]


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture and numerics of a decoder; frozen and hashable, so that it can be a static argument.

    The letters are the axes of `phi4r.typing`. Values of the family are in RECIPE section 1 of the README.

    Attributes:
      vocab_size: V, rows of the embedding, unused ones included.
      num_layers: L.
      embed_dim: D.
      num_heads: N, query heads.
      num_kv_heads: K, key/value heads; divides N.
      head_dim: H.
      mlp_dim: F, the width of the gated MLP.
      rope_theta: base of the rotary frequencies.
      max_positions: the context length that the model claims.
      rotary_fraction: share of H that is rotated; the tail passes unrotated.
      longrope: divisors of the frequencies for contexts past the original one, or None (`phi4r.model.rope_scaling`).
      sliding_window: how many last positions a query sees (itself included), or None for all.
      norm_eps: epsilon of RMSNorm.
      tied_embeddings: whether the output head is the embedding.
      init_std: standard deviation of random initial weights.
      dtype: dtype of activations, by name.
      param_dtype: dtype of stored parameters, by name.
      attention: the backend of attention over whole rows (`phi4r.model.attention`); "auto" chooses by device and shape.
      remat: what the forward pass keeps for the backward pass, which computes the rest again (`phi4r.model.remat`):
        "none" keeps everything; "dots" the results of matrix products; "attention" the inputs of the blocks and the
        results of attention; "full" the inputs of the blocks; "offload" these too, in the memory of the host.
      lora: the adapters of a model whose own parameters are frozen, or None where they are trained.
    """

    vocab_size: int
    num_layers: int
    embed_dim: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    rope_theta: float = 10000.0
    max_positions: int = 4096
    rotary_fraction: float = 1.0
    longrope: LongRope | None = None
    sliding_window: int | None = None
    norm_eps: float = 1e-5
    tied_embeddings: bool = False
    init_std: float = 0.02
    dtype: str = "float32"
    param_dtype: str = "float32"
    attention: Attention = "auto"
    remat: Remat = "none"
    lora: Lora | None = None

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise UserError(f"num_heads={self.num_heads} is not a multiple of num_kv_heads={self.num_kv_heads}.")
        if self.longrope is not None:
            for name in ("short_factor", "long_factor"):
                count = len(getattr(self.longrope, name))
                if count != self.rotary_dim // 2:
                    raise UserError(f"longrope {name} has {count} factors; this shape needs {self.rotary_dim // 2}.")

    @property
    def heads(self) -> tuple[int, int]:
        """(K, Q): KV heads, and query heads of each."""
        return self.num_kv_heads, self.num_heads // self.num_kv_heads

    @property
    def window(self) -> int | None:
        """The sliding window, or None where no position of the model lies beyond it (as in Phi-4-mini)."""
        reaches_all = self.sliding_window is None or self.sliding_window >= self.max_positions
        return None if reaches_all else self.sliding_window

    @property
    def rotary_dim(self) -> int:
        """How many of the H dimensions of a head are rotated (even)."""
        return int(self.head_dim * self.rotary_fraction)

    def replace(self, **changes) -> "ModelConfig":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def for_length(self, longest: int) -> "ModelConfig":
        """Returns the config with longrope factors fixed to those of sequences of up to `longest` tokens.

        The sampler and the trainer of one policy must rotate alike, however short a row happens to be.
        """
        if self.longrope is None or self.longrope.use != "auto":
            return self
        use = "long" if longest > self.longrope.original_max_positions else "short"
        return self.replace(longrope=dataclasses.replace(self.longrope, use=use))

    def with_rope(self, settings: RopeSettings) -> "ModelConfig":
        """Returns the config for more positions than the model was made for.

        Raises:
          UserError: for a model whose frequencies are scaled already, or a longrope of another shape.
        """
        if settings.scaling == "stored":
            return self
        if self.longrope is not None:
            raise UserError(
                f"rope.scaling={settings.scaling}, but this model's own config.json scales its frequencies already; "
                "leave rope.scaling at 'stored'."
            )
        longrope = settings.divisors(rotary_dim=self.rotary_dim, theta=self.rope_theta, original=self.max_positions)
        return self.replace(longrope=longrope, max_positions=round(self.max_positions * settings.factor))

    # Counts

    @property
    def num_params(self) -> int:
        """How many parameters the model has, adapters left out; 14,659,507,200 for phi-4."""
        attention = self.embed_dim * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        mlp = 3 * self.embed_dim * self.mlp_dim
        embeddings = self.vocab_size * self.embed_dim * (1 if self.tied_embeddings else 2)
        return embeddings + self.num_layers * (attention + mlp + 2 * self.embed_dim) + self.embed_dim

    def train_flops(self, num_tokens: int, attended: int) -> int:
        """Model FLOPs of a forward and backward pass: 6 for each matrix parameter and token, plus causal attention.

        Parameters: 6 * (parameters that multiply) * tokens; the embedding look-up multiplies nothing. Attention:
        scores and values are 2 products of 2 * H FLOPs each for every head and (query, visible key) pair, three
        times over for forward and backward: 12 * L * N * H * pairs. Recomputation by remat is not counted: it is work,
        not progress.

        Frozen parameters have no gradient of their own, so under adapters theirs count 4 instead of 6.

        Args:
          num_tokens: tokens that pass through the model.
          attended: number of (query, key) pairs that the mask admits; T (T + 1) / 2 for one causal row of T.
        """
        multiplied = self.num_params - (0 if self.tied_embeddings else self.vocab_size * self.embed_dim)
        multiplied -= (2 * self.num_layers + 1) * self.embed_dim
        trained = 6 * multiplied if self.lora is None else 4 * multiplied + 6 * num_adapter_params(self)
        return trained * num_tokens + 12 * self.num_layers * self.num_heads * self.head_dim * attended

    def kv_cache_bytes(self, num_tokens: int, itemsize: int = 2, cache: DecodeCache = "float") -> int:
        """Bytes of keys and values for `num_tokens`; 200 KiB a token for phi-4 in bfloat16, 103 KiB in int8.

        Args:
          num_tokens: in the cache.
          itemsize: bytes of an activation.
          cache: "int8" for a byte in place of an activation, and a float32 scale for each vector.
        """
        vector = self.head_dim * itemsize if cache == "float" else self.head_dim + 4
        return 2 * self.num_layers * self.num_kv_heads * vector * num_tokens

    # Hugging Face config.json

    @classmethod
    def from_hf(cls, hf: Mapping[str, Any], **overrides) -> "ModelConfig":
        """Reads a Hugging Face config.json of model type phi3 or llama.

        Args:
          hf: the parsed config.json; rope fields are read in the old (`rope_theta`, `rope_scaling`) and in the new
            (`rope_parameters`) spelling.
          **overrides: fields to set on top, as `dtype` or `remat`.

        Raises:
          UserError: for another architecture, or a feature that this decoder does not have.
        """
        kind = hf.get("model_type")
        if kind not in ("phi3", "llama"):
            raise UserError(f"config.json is of model_type {kind!r}; phi4r reads 'phi3' (Phi-3, Phi-4) and 'llama'.")
        _refuse_unsupported(hf)
        rope = {**(hf.get("rope_scaling") or {}), **(hf.get("rope_parameters") or {})}
        num_heads = hf["num_attention_heads"]
        head_dim = hf.get("head_dim") or hf["hidden_size"] // num_heads
        max_positions = hf["max_position_embeddings"]
        rotary_fraction = float(rope.get("partial_rotary_factor") or hf.get("partial_rotary_factor") or 1.0)
        rope_theta = float(rope.get("rope_theta") or hf.get("rope_theta", 10000.0))
        original = hf.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
        if original is None:  # which a longrope cannot do without
            original = rope["original_max_position_embeddings"] if "long_factor" in rope else max_positions
        rotary_dim = int(head_dim * rotary_fraction)
        fields = dict(
            vocab_size=hf["vocab_size"],
            num_layers=hf["num_hidden_layers"],
            embed_dim=hf["hidden_size"],
            num_heads=num_heads,
            num_kv_heads=hf.get("num_key_value_heads") or num_heads,
            head_dim=head_dim,
            mlp_dim=hf["intermediate_size"],
            rope_theta=rope_theta,
            max_positions=max_positions,
            rotary_fraction=rotary_fraction,
            longrope=read_hf_rope(rope, original, rotary_dim=rotary_dim, theta=rope_theta),
            sliding_window=hf.get("sliding_window") if kind == "phi3" else None,  # a llama has none, whatever it says
            norm_eps=hf["rms_norm_eps"],
            tied_embeddings=bool(hf.get("tie_word_embeddings", False)),
            init_std=hf.get("initializer_range", 0.02),
        )
        return cls(**{**fields, **overrides})

    def to_hf(self) -> dict[str, Any]:
        """Returns the config.json fields of this shape, as model type phi3 (token ids are the folder's matter)."""
        return {
            "architectures": ["Phi3ForCausalLM"],
            "model_type": "phi3",
            "vocab_size": self.vocab_size,
            "num_hidden_layers": self.num_layers,
            "hidden_size": self.embed_dim,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            **({} if self.head_dim * self.num_heads == self.embed_dim else {"head_dim": self.head_dim}),
            "intermediate_size": self.mlp_dim,
            "rope_theta": self.rope_theta,
            "rope_scaling": write_hf_rope(self.longrope),
            "partial_rotary_factor": self.rotary_fraction,
            "max_position_embeddings": self.max_positions,
            "original_max_position_embeddings": (
                self.longrope.original_max_positions if self.longrope else self.max_positions
            ),
            "sliding_window": self.sliding_window,
            "rms_norm_eps": self.norm_eps,
            "tie_word_embeddings": self.tied_embeddings,
            "initializer_range": self.init_std,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "use_cache": True,
            "torch_dtype": self.param_dtype,
        }


def _refuse_unsupported(hf: Mapping[str, Any]) -> None:
    """Raises UserError where the file asks for something that would be computed wrongly in silence."""
    if hf.get("hidden_act", "silu") != "silu":
        raise UserError(f"config.json has hidden_act={hf['hidden_act']!r}; this decoder has silu only.")
    for key in ("attention_bias", "mlp_bias"):
        if hf.get(key):
            raise UserError(f"config.json has {key}=true; this decoder has no biases.")


PHI4 = ModelConfig(
    vocab_size=100352,
    num_layers=40,
    embed_dim=5120,
    num_heads=40,
    num_kv_heads=10,
    head_dim=128,
    mlp_dim=17920,
    rope_theta=250000.0,
    max_positions=16384,
    dtype="bfloat16",
    param_dtype="bfloat16",
    remat="full",
)
PHI4_REASONING = PHI4.replace(rope_theta=500000.0, max_positions=32768)
