"""Log-probabilities of given tokens, in chunks: the one function behind every loss and every policy comparison."""

import functools

import jax
import jax.numpy as jnp

from phi4r.model.inputs import TokenBatch
from phi4r.model.transformer import Transformer, unembed
from phi4r.sharding import constrain
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

    def split(x: Array) -> Array:  # [B T ...] -> [chunks B chunk_size ...]
        padded = jnp.pad(x, [(0, 0), (0, -length % chunk_size)] + [(0, 0)] * (x.ndim - 2))
        return jnp.moveaxis(padded.reshape(x.shape[0], -1, chunk_size, *x.shape[2:]), 1, 0)

    scored = jax.lax.map(jax.checkpoint(score), (split(hidden), split(batch.targets)))
    logprobs, entropy = (jnp.moveaxis(x, 0, 1).reshape(hidden.shape[0], -1)[:, :length] for x in scored)
    return logprobs, entropy


def _score_chunk(chunk: tuple[Array, Array], *, head: Params, temperature: float | Array) -> tuple[Array, Array]:
    """Scores one chunk: hidden [B C D] and targets [B C] to log-probabilities and entropy [B C]."""
    hidden, targets = chunk
    logits = unembed(hidden, head) / temperature
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    mean_logits = jnp.sum(jnp.exp(logits - normalizer[..., None]) * logits, axis=-1)
    return target_logits - normalizer, normalizer - mean_logits
