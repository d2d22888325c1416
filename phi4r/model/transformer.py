"""The Phi-3 / Phi-4 decoder as functional linen modules.

Pre-norm residual blocks of grouped-query attention with rotary positions and a SiLU-gated MLP. Parameters come in one
of two layouts, with the same mathematics:

* stacked: the layers on axis 0 of every leaf, run by a scan. For training, checkpoints and sharding.
* unrolled: a subtree for each layer of matrices [out, in], k, v and gate, up fused, run by a Python loop with an
  explicit cache. For decoding, where a step reads every weight once and a scan would copy the cache
  (`phi4r.model.layouts`).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from phi4r.model.attention import Tokens, attend, attend_paged
from phi4r.model.config import ModelConfig
from phi4r.model.int8 import Int8Matrix, look_up
from phi4r.model.kv_cache import NO_TOKEN, KVCache, put_columns, write_columns
from phi4r.model.linear import linear, rows_product
from phi4r.model.lora import Adapter, adapted, declare_adapter
from phi4r.model.quantized import dense
from phi4r.model.remat import BLOCK_INPUT, rematerialised
from phi4r.model.rope import rotary_angles, rotate
from phi4r.sharding import constrain, context_shards
from phi4r.typing import Array, Float, Int, Params, typechecked

ACTIVATION = ("batch", "length", "act_embed")
HEAD_AXES = ("kv_heads", "queries", "head_dim")
KV_AXES = ("kv_heads", "head_dim")


class RMSNorm(nn.Module):
    """x / rms(x) in float32, cast to the dtype of x, *then* times the scale: the order of the reference."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Normalises the last axis."""
        init = nn.with_logical_partitioning(nn.initializers.ones, ("act_embed",))
        scale = self.param("scale", init, (x.shape[-1],), jnp.dtype(self.config.param_dtype))
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.config.norm_eps)
        return wide.astype(x.dtype) * scale.astype(x.dtype)[None, None]


class Attention(nn.Module):
    """Grouped-query self-attention; keys and values share a matrix in the unrolled layout."""

    config: ModelConfig
    fused: bool

    @nn.compact
    def __call__(self, x, angles, tokens, cache, layer):
        """Returns the attention output, and the columns of `cache` with the keys and values of this call.

        Args:
          x: [B T D].
          angles: (cos, sin) of `rotary_angles`.
          tokens: Tokens of the T queries.
          cache: the KVCache that already knows their positions; None where they see each other alone.
          layer: number of this layer in the cache.
        """
        c = self.config
        q, k, v = self._project(x)
        q, k = rotate(q, *angles), rotate(k, *angles)
        k, v = jnp.swapaxes(k, 1, 2), jnp.swapaxes(v, 1, 2)  # [B K T H], as attention reads them
        if cache is None:
            written = None
            mixed = attend(q, k, v, tokens, tokens, window=c.window, backend=c.attention)
        else:
            written = _write_columns(cache, layer, k, v)
            pages = cache.pages.keys[layer], cache.pages.values[layer]
            known = pages, cache.table, cache.lengths, written, cache.positions
            mixed = attend_paged(q, tokens.positions, *known, window=c.window, backend=c.attention)
        if self.fused:
            o = weight(self, "o", (c.embed_dim, *c.heads, c.head_dim), ("embed", *HEAD_AXES))
            output = rows_product(o, mixed, num_inputs=3)
        else:
            o = weight(self, "o", (*c.heads, c.head_dim, c.embed_dim), (*HEAD_AXES, "embed"))
            output = jnp.einsum("btkqh,kqhd->btd", mixed, o)
        (output,) = adapted(mixed, (output,), declare_adapter(self, "o"))
        return output, written

    def _project(self, x: Array) -> tuple[Array, Array, Array]:
        """Returns queries [B T K Q H], keys and values [B T K H] of x [B T D]."""
        c = self.config
        kv_shape = (c.num_kv_heads, c.head_dim)
        if self.fused:
            q = weight(self, "q", (*c.heads, c.head_dim, c.embed_dim), (*HEAD_AXES, "embed"))
            kv = weight(self, "kv", (2, *kv_shape, c.embed_dim), (None, *KV_AXES, "embed"))
            k, v = jnp.moveaxis(rows_product(kv, x), 2, 0)
            products = rows_product(q, x), k, v
        else:
            q = weight(self, "q", (c.embed_dim, *c.heads, c.head_dim), ("embed", *HEAD_AXES))
            k, v = (weight(self, name, (c.embed_dim, *kv_shape), ("embed", *KV_AXES)) for name in ("k", "v"))
            products = jnp.einsum("btd,dkqh->btkqh", x, q), *(jnp.einsum("btd,dkh->btkh", x, w) for w in (k, v))
        return adapted(x, products, declare_adapter(self, "qkv"))


def _write_columns(cache: KVCache, layer: int, k: Array, v: Array) -> tuple[Array, Array]:
    """Returns the columns of a layer with the new keys and values [B K T H]."""
    return (
        write_columns(cache.keys[layer], k, cache.column),
        write_columns(cache.values[layer], v, cache.column),
    )


class MLP(nn.Module):
    """down(silu(gate x) * up x)."""

    config: ModelConfig
    fused: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Applies the gated MLP at every position."""
        c = self.config
        on_gate_up, on_down = declare_adapter(self, "gate_up"), declare_adapter(self, "down")
        if self.fused:
            gate_up = weight(self, "gate_up", (2, c.mlp_dim, c.embed_dim), (None, "mlp", "embed"))
            products = tuple(jnp.moveaxis(rows_product(gate_up, x), 2, 0))
            gate, up = adapted(x, products, on_gate_up)
            down = weight(self, "down", (c.embed_dim, c.mlp_dim), ("embed", "mlp"))
            hidden = nn.silu(gate) * up
            (output,) = adapted(hidden, (rows_product(down, hidden),), on_down)
            return output
        shape, axes = (c.embed_dim, c.mlp_dim), ("embed", "mlp")
        products = tuple(linear(x, weight(self, name, shape, axes)) for name in ("gate", "up"))
        gate, up = adapted(x, products, on_gate_up)
        return _gated_down(gate, up, weight(self, "down", (c.mlp_dim, c.embed_dim), ("mlp", "embed")), on_down)


@jax.checkpoint
def _gated_down(gate: Array, up: Array, down: Array, adapter: Adapter | None) -> Array:
    """Returns (silu(gate) * up) @ down; of the activations [B T F] the backward pass keeps gate and up alone."""
    hidden = nn.silu(gate) * up
    (output,) = adapted(hidden, (linear(hidden, down),), adapter)
    return output


class Block(nn.Module):
    """One decoder layer."""

    config: ModelConfig
    fused: bool = False

    @nn.compact
    def __call__(self, x, angles, tokens, cache, layer):
        """Adds attention and MLP to the residual stream; see `Attention` for the arguments."""
        x = checkpoint_name(x, BLOCK_INPUT)
        normed = RMSNorm(self.config, name="attn_norm")(x)
        mixed, written = Attention(self.config, self.fused, name="attn")(normed, angles, tokens, cache, layer)
        x = constrain(x + mixed, *ACTIVATION)
        x = x + MLP(self.config, self.fused, name="mlp")(RMSNorm(self.config, name="mlp_norm")(x))
        return constrain(x, *ACTIVATION), written


class Transformer(nn.Module):
    """The decoder. `unrolled` chooses the parameter layout; only the unrolled one takes a cache."""

    config: ModelConfig
    unrolled: bool = False

    def setup(self):
        """Declares embedding, head, layers and final norm."""
        c = self.config
        self.embedding = self.param(
            "embedding", _normal(c, ("vocab", "embed")), (c.vocab_size, c.embed_dim), jnp.dtype(c.param_dtype)
        )
        if not c.tied_embeddings:
            self.lm_head = self.param(
                "lm_head",
                _normal(c, ("embed", "vocab")),
                (c.embed_dim, c.vocab_size),
                jnp.dtype(c.param_dtype),
            )
        if self.unrolled:
            self.layers = [Block(c, fused=True) for _ in range(c.num_layers)]
        else:
            self.layers = nn.scan(
                rematerialised(Block, c.remat),
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=nn.broadcast,
                length=c.num_layers,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )(c)
        self.final_norm = RMSNorm(c)

    @typechecked
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        segment_ids: Int[Array, "B T"],
        positions: Int[Array, "B T"],
        cache: KVCache | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache | None]:
        """Returns the final hidden states, and the cache with these tokens in its next T columns.

        Args:
          tokens: token ids.
          segment_ids: 0 for padding; equal ids in a row attend to each other. With a cache a row is one sequence.
          positions: position of each token in its segment.
          cache: what was seen before; None for a pass without one.
        """
        c = self.config
        x = constrain(look_up(self.embedding, tokens, c.dtype), *ACTIVATION)
        angles = rotary_angles(positions, c, longest=None if cache is None else cache.longest)
        now = Tokens(segment_ids, positions)
        if not self.unrolled:
            if cache is not None:
                raise ValueError("the stacked layout takes no cache: unroll the parameters (phi4r.model.layouts).")
            x, _ = self.layers(x, angles, now, None, None)
            return self.final_norm(x), None
        if cache is not None:
            held = jnp.where(segment_ids > 0, positions, NO_TOKEN)
            known = put_columns(cache.positions, held, cache.column, axis=1)
            cache = cache.replace(positions=known)
        written = []
        for index, layer in enumerate(self.layers):
            x, columns = layer(x, angles, now, cache, index)
            written.append(columns)
        if cache is not None:
            keys, values = zip(*written, strict=True)
            cache = cache.replace(keys=keys, values=values, column=cache.column + tokens.shape[1])
        return self.final_norm(x), cache

    def unembed(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Returns float32 logits of hidden states; apart from `__call__`, so that nobody makes [B T V] unasked."""
        return unembed(
            hidden,
            {"embedding": self.embedding} if self.config.tied_embeddings else {"lm_head": self.lm_head},
        )


def unembed(hidden: Float[Array, "... D"], params: Params) -> Float[Array, "... V"]:
    """Returns float32 logits, by the head of `params` or, where it has none, by the tied embedding."""
    tied = "lm_head" not in params
    head = params["embedding"] if tied else params["lm_head"]
    if isinstance(head, Int8Matrix):
        return _logits(hidden, head.values, tied) * jnp.expand_dims(head.scale, tuple(range(hidden.ndim - 1)))
    if hidden.dtype == jnp.float32:
        return _logits(hidden, head, tied)
    return _narrow_logits(hidden, head, tied)


def _logits(hidden: Array, head: Array, tied: bool) -> Array:
    """Returns hidden @ head, or head.T where it is tied: products in the dtype of hidden, their sum in float32."""
    spec = "...d,vd->...v" if tied else "...d,dv->...v"
    return jnp.einsum(spec, hidden, head.astype(hidden.dtype), preferred_element_type=jnp.float32)


# The automatic gradient would multiply the float32 gradient of the logits with narrow factors: a float32 product, which
# takes many times as long on GPUs and TPUs. This one rounds it first, as every other layer does with its gradient.
_narrow_logits = jax.custom_vjp(_logits, nondiff_argnums=(2,))


def _narrow_forward(hidden: Array, head: Array, tied: bool) -> tuple[Array, tuple[Array, Array]]:
    return _logits(hidden, head, tied), (hidden, head)


def _narrow_backward(tied: bool, saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    hidden, head = saved
    grad, rows = grad.astype(hidden.dtype), "bt"[: grad.ndim - 1]
    matrix = "vd" if tied else "dv"
    hidden_grad = jnp.einsum(f"{rows}v,{matrix}->{rows}d", grad, head.astype(hidden.dtype))
    product = f"{rows}d,{rows}v->{matrix}"
    head_grad = jnp.einsum(product, hidden, grad, preferred_element_type=jnp.float32)
    return hidden_grad, head_grad.astype(head.dtype)


_narrow_logits.defvjp(_narrow_forward, _narrow_backward)


def weight(module: nn.Module, name: str, shape: tuple[int, ...], axes: tuple[str, ...]) -> Array | Int8Matrix:
    """Declares a matrix of `module` with logical axes; returns it in the dtype of activations, or as it is in int8."""
    config: ModelConfig = module.config
    leaf = module.param(name, _normal(config, axes), shape, jnp.dtype(config.param_dtype))
    return leaf if isinstance(leaf, Int8Matrix) else dense(leaf, config.dtype)


def _normal(config: ModelConfig, axes: tuple[str, ...]):
    """Returns the initializer of weights: normal with the model's standard deviation."""
    return nn.with_logical_partitioning(nn.initializers.normal(config.init_std), axes)


# Parameters


def _boxed_shapes(config: ModelConfig, *, unrolled: bool = False) -> Any:
    """Returns the shapes of the parameters, boxed with their logical axes; nothing is allocated."""
    return jax.eval_shape(Transformer(config, unrolled).init, jax.random.key(0), *_shortest_row())["params"]


def init_params(config: ModelConfig, key: Array) -> Params:
    """Returns random parameters in the stacked layout; jit it with `out_shardings` to create them on a mesh."""
    return nn.unbox(Transformer(config).init(key, *_shortest_row())["params"])


def _shortest_row() -> tuple[Array, Array, Array]:
    """Returns tokens, segments and positions of a row that divides over the mesh in use, to learn shapes from."""
    return (jnp.zeros((1, 2 * context_shards()), jnp.int32),) * 3


def abstract_params(config: ModelConfig, *, unrolled: bool = False) -> Params:
    """Returns the parameters as ShapeDtypeStructs, in the stacked or the unrolled layout."""
    return nn.unbox(_boxed_shapes(config, unrolled=unrolled))


def param_axes(config: ModelConfig, *, unrolled: bool = False) -> Any:
    """Returns the tuple of logical axis names of every parameter, in the stacked or the unrolled layout."""
    boxed = _boxed_shapes(config, unrolled=unrolled)
    return jax.tree.map(lambda box: box.names, boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
