"""Log-probabilities of given tokens, in chunks: the one function behind every loss and every policy comparison."""

import functools
import math

import jax
import jax.numpy as jnp

from phi4r.model.inputs import TokenBatch
from phi4r.model.transformer import Transformer, unembed
from phi4r.sharding import TENSOR, constrain, context_shards
from phi4r.typing import Array, Float, Params


def token_logprobs(
    model: Transformer,
    params: Params,
    batch: TokenBatch,
    *,
    chunk_size: int,
    temperature: float | Array = 1.0,
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Returns log p(target) and the entropy of the predicted distribution, in nats, float32.

    The loss of SFT, the check of the sampler, and the old, the reference and the new policy of GRPO all call this, so
    they cannot disagree about temperature, masks or precision. Logits exist for `chunk_size` positions of each row at a
    time and are computed again in the backward pass: no [B, T, V] array is ever made.

    Args:
      model: the decoder (stacked or unrolled, as `params`).
      params: its parameters.
      batch: rows; positions without a target score target 0 and are to be masked by the caller.
      chunk_size: positions of a row in one chunk.
      temperature: divides the logits, as in the sampler.
    """
    hidden, _ = model.apply({"params": params}, batch.tokens, batch.segment_ids, batch.positions)
    # Only the head goes into the loop over chunks, gathered over `fsdp` once and not in every chunk.
    if model.config.tied_embeddings:
        head = {"embedding": constrain(params["embedding"], "vocab", "act_embed")}
    else:
        head = {"lm_head": constrain(params["lm_head"], "act_embed", "vocab")}
    score = functools.partial(_score_chunk, head=head, temperature=temperature)
    length = hidden.shape[1]
    if length <= chunk_size:
        return score((hidden, batch.targets))
    shards = context_shards()  # a chunk takes as many positions of each device that holds a part of the row
    part, size = length // shards, chunk_size // shards

    def split(x: Array) -> Array:  # [B T ...] -> [chunks B chunk_size ...]
        parts = x.reshape(x.shape[0], shards, part, *x.shape[2:])
        padded = jnp.pad(parts, [(0, 0), (0, 0), (0, -part % size)] + [(0, 0)] * (x.ndim - 2))
        chunks = jnp.moveaxis(padded.reshape(x.shape[0], shards, -1, size, *x.shape[2:]), 2, 0)
        return chunks.reshape(-1, x.shape[0], shards * size, *x.shape[2:])

    def join(x: Array) -> Array:  # [chunks B chunk_size] -> [B T]
        parts = jnp.moveaxis(x.reshape(-1, x.shape[1], shards, size), 0, 2)
        return parts.reshape(x.shape[1], shards, -1)[:, :, :part].reshape(x.shape[1], length)

    logprobs, entropy = jax.lax.map(jax.checkpoint(score), (split(hidden), split(batch.targets)))
    return join(logprobs), join(entropy)


def _score_chunk(chunk: tuple[Array, Array], *, head: Params, temperature: float | Array) -> tuple[Array, Array]:
    """Scores one chunk: hidden [B C D] and targets [B C] to log-probabilities and entropy [B C]."""
    hidden, targets = chunk
    logits = unembed(hidden, head) / temperature
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    target_logits = _target_logits(logits, targets)
    mean_logits = jnp.sum(jnp.exp(logits - normalizer[..., None]) * logits, axis=-1)
    return target_logits - normalizer, normalizer - mean_logits


def _target_logits(logits: Array, targets: Array) -> Array:
    """Returns the logit of every target, [B C] of [B C V]."""
    mesh = jax.sharding.get_abstract_mesh()
    if math.prod(mesh.shape.get(axis, 1) for axis in TENSOR) == 1:
        return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    # A sum over a comparison, and not a look-up: it divides over the shards of the vocabulary.
    is_target = jnp.arange(logits.shape[-1])[None, None] == targets[..., None]
    return jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
