"""The one attention function: chooses the backend, and gives each device its part of rows and heads."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from phi4r.errors import UserError
from phi4r.model.attention.blockwise import attend_blockwise
from phi4r.model.attention.dense import attend_dense
from phi4r.model.attention.mask import Tokens
from phi4r.model.attention.splash import attend_splash
from phi4r.model.attention.triton import attend_triton
from phi4r.model.config import Attention
from phi4r.sharding import device_in_use, fitted_spec, zigzag_order
from phi4r.typing import Array, Float, typechecked

QUERY_AXES = ("batch", "length", "kv_heads", "queries", "head_dim")
KEY_AXES = ("batch", "kv_heads", "length", "head_dim")
TOKEN_AXES = ("batch", "length")

BACKENDS: dict[str, Callable[..., Array]] = {
    "dense": attend_dense,
    "blockwise": attend_blockwise,
    "splash": attend_splash,
    "triton": attend_triton,
}
# Shorter rows cost less as one product, longer ones as blocks: on a CPU, forward and backward with 9 heads of 64 on 3
# KV heads, blocks have 0.8x the speed at 128 tokens, 1.1x at 256, 2.3x at 512, 3.7x at 2048, 4.5x at 4096.
SHORTEST_IN_BLOCKS = 256


@typechecked
def attend(
    query: Float[Array, "B T K Q H"],
    key: Float[Array, "B K S H"],
    value: Float[Array, "B K S H"],
    queries: Tokens,
    keys: Tokens,
    *,
    window: int | None = None,
    backend: Attention = "auto",
) -> Float[Array, "B T K Q H"]:
    """softmax(q k^T / sqrt(H)) v over the visible keys (`phi4r.model.attention.mask.visible`); float32 softmax.

    The keys are those of the query tokens, with positions that rise along each segment. On a mesh with `context` > 1
    they are in zigzag order (`phi4r.sharding`); else no query sees a key to its right. A cache has a function of its
    own (`phi4r.model.attention.paged`).

    Args:
      query: rotated queries.
      key: rotated keys.
      value: values.
      queries: segment and position of every query.
      keys: the same of every key.
      window: how many last positions a query sees, itself included; None for all.
      backend: which one.

    Raises:
      UserError: where the named backend cannot honour the input.
    """
    mesh = jax.sharding.get_abstract_mesh()
    shards = mesh.shape.get("context", 1)
    chosen = choose_backend(backend, device_in_use().platform, key.shape[2], window)
    kernel = functools.partial(BACKENDS[chosen], window=window, context_shards=shards)
    if mesh.size <= 1:
        return kernel(query, key, value, queries, keys)
    if query.shape[1] % (2 * shards) and shards > 1:
        raise UserError(f"rows of {query.shape[1]} tokens do not divide into 2 x context={shards} parts.")

    def attend_locally(query: Array, key: Array, value: Array, queries: Tokens, keys: Tokens) -> Array:
        if shards > 1:
            key, value = (_gather_row(x, 2, shards) for x in (key, value))
            keys = Tokens(*(_gather_row(x, 1, shards) for x in keys))
        return kernel(query, key, value, queries, keys)

    query_spec, key_spec = fitted_spec(mesh, QUERY_AXES, query.shape), fitted_spec(mesh, KEY_AXES, key.shape)
    token_spec = fitted_spec(mesh, TOKEN_AXES, queries.segment_ids.shape)
    in_specs = (query_spec, key_spec, key_spec, Tokens(token_spec, token_spec), Tokens(token_spec, token_spec))
    return jax.shard_map(attend_locally, in_specs=in_specs, out_specs=query_spec, check_vma=False)(
        query, key, value, queries, keys
    )


def choose_backend(backend: Attention, platform: str, length: int, window: int | None = None) -> str:
    """Returns the backend that "auto" stands for; any other name stands for itself.

    Args:
      backend: of the config.
      platform: "cpu", "gpu" or "tpu".
      length: tokens of a whole row.
      window: the sliding window, which the kernel for TPUs does not have.
    """
    if backend != "auto":
        return backend
    if length < SHORTEST_IN_BLOCKS:
        return "dense"
    if platform == "tpu" and window is None:
        return "splash"
    return "triton" if platform == "gpu" else "blockwise"


def _gather_row(x: Array, axis: int, shards: int) -> Array:
    """Returns whole rows in natural order from the zigzag parts that each device of `context` holds."""
    gathered = jax.lax.all_gather(x, "context", axis=axis, tiled=True)
    part_of = zigzag_order(2 * shards, shards).argsort()
    return jnp.concatenate([jnp.split(gathered, 2 * shards, axis=axis)[part] for part in part_of], axis=axis)
