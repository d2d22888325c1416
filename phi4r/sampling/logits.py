"""From logits to the next token: temperature, top-k, top-p and min-p as pure functions of traced values."""

import flax.struct
import jax
import jax.numpy as jnp

from phi4r.typing import Array, Float, Int, typechecked


@flax.struct.dataclass
class SamplingParams:
    """How to choose tokens. Traced scalars, so that no value of them compiles anything anew."""

    temperature: Array | float = 1.0  # [] float32; 0 means greedy
    top_k: Array | int = 0  # [] int32; 0 means all
    top_p: Array | float = 1.0  # [] float32 in (0, 1]; 1 means all
    min_p: Array | float = 0.0  # [] float32 in [0, 1): least probability as a share of the likeliest token's; 0 for all
    max_tokens: Array | int = 2**31 - 1  # [] int32, the end token included; at most the sampler's max_response
    max_thought: Array | int = 2**31 - 1  # [] int32: tokens after which an open thought is closed by force


@typechecked
def keep_top_k(logits: Float[Array, "B V"], top_k: Int[Array, ""]) -> Float[Array, "B V"]:
    """Returns the logits with everything below the k-th largest at -inf (ties with it are kept); all if k is 0."""
    descending = -jnp.sort(-logits, axis=-1)
    last = jnp.clip(jnp.where(top_k > 0, top_k, logits.shape[-1]), 1, logits.shape[-1]) - 1
    threshold = jnp.take_along_axis(descending, jnp.full((logits.shape[0], 1), last), axis=-1)
    return jnp.where(logits >= threshold, logits, -jnp.inf)


@typechecked
def keep_top_p(logits: Float[Array, "B V"], top_p: Float[Array, ""]) -> Float[Array, "B V"]:
    """Returns the logits of the smallest set of most likely tokens with probability >= p; the others at -inf."""
    descending = -jnp.sort(-logits, axis=-1)
    probabilities = jax.nn.softmax(descending, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities  # of all strictly more likely tokens
    kept = jnp.where(before < top_p, descending, jnp.inf)
    threshold = jnp.min(kept, axis=-1, keepdims=True)
    return jnp.where(logits >= threshold, logits, -jnp.inf)


@typechecked
def keep_min_p(logits: Float[Array, "B V"], min_p: Float[Array, ""]) -> Float[Array, "B V"]:
    """Returns the logits of tokens with at least `min_p` times the probability of the likeliest; the others at -inf."""
    # The threshold of 0 is -inf: everything stays.
    threshold = jnp.max(logits, axis=-1, keepdims=True) + jnp.log(min_p)
    return jnp.where(logits >= threshold, logits, -jnp.inf)


@typechecked
def choose_tokens(
    logits: Float[Array, "B V"], keys: Array, params: SamplingParams, forced: Int[Array, "B"] | None = None
) -> tuple[Int[Array, "B"], Float[Array, "B"], Float[Array, "B"]]:
    """Draws one token for every row.

    Args:
      logits: float32.
      keys: [B] random keys, one a row, so that a row's tokens do not depend on its neighbours.
      params: traced sampling parameters.
      forced: the token to take whatever the logits say; negative to draw one.

    Returns:
      The tokens; their log-probabilities under softmax(logits / temperature), before any filter, which is what
      `token_logprobs` gives for the same temperature; and the entropy of that distribution in nats. At temperature 0
      both are those of temperature 1.
    """
    temperature = jnp.asarray(params.temperature, jnp.float32)
    top_k, top_p = jnp.asarray(params.top_k, jnp.int32), jnp.asarray(params.top_p, jnp.float32)
    min_p = jnp.asarray(params.min_p, jnp.float32)
    greedy = temperature <= 0.0
    scaled = logits / jnp.where(greedy, 1.0, temperature)

    def draw(scaled: Array) -> Array:
        # Sorting 100k logits is dear, so the filters run only where they are on; each looks at what the last one left.
        filtered = jax.lax.cond(top_k > 0, lambda x: keep_top_k(x, top_k), lambda x: x, scaled)
        filtered = jax.lax.cond(top_p < 1.0, lambda x: keep_top_p(x, top_p), lambda x: x, filtered)
        filtered = keep_min_p(filtered, min_p)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, (logits.shape[-1],)))(keys)
        return jnp.argmax(filtered + noise, axis=-1)

    tokens = jax.lax.cond(greedy, lambda x: jnp.argmax(x, axis=-1), draw, scaled).astype(jnp.int32)
    if forced is not None:
        tokens = jnp.where(forced >= 0, forced, tokens)
    chosen = jnp.take_along_axis(scaled, tokens[:, None], axis=-1)[:, 0]
    normalizer = jax.nn.logsumexp(scaled, axis=-1)
    mean = jnp.sum(jnp.exp(scaled - normalizer[:, None]) * scaled, axis=-1)
    return tokens, chosen - normalizer, normalizer - mean
