"""From logits to the next token: temperature, top-k and top-p as pure functions of traced values."""

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
    max_tokens: Array | int = 2**31 - 1  # [] int32, the end token included; at most the sampler's max_response


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
def choose_tokens(
    logits: Float[Array, "B V"], keys: Array, params: SamplingParams
) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """Draws one token for every row.

    Args:
      logits: float32.
      keys: [B] random keys, one a row, so that a row's tokens do not depend on its neighbours.
      params: traced sampling parameters.

    Returns:
      The tokens and their log-probabilities under softmax(logits / temperature), before top-k and top-p, which is what
      `token_logprobs` gives for the same temperature; at temperature 0 they are those of temperature 1.
    """
    temperature = jnp.asarray(params.temperature, jnp.float32)
    top_k, top_p = jnp.asarray(params.top_k, jnp.int32), jnp.asarray(params.top_p, jnp.float32)
    greedy = temperature <= 0.0
    scaled = logits / jnp.where(greedy, 1.0, temperature)

    def draw(scaled: Array) -> Array:
        # Sorting 100k logits is dear, so the filters run only where they are on; top-p looks at what top-k left.
        filtered = jax.lax.cond(top_k > 0, lambda x: keep_top_k(x, top_k), lambda x: x, scaled)
        filtered = jax.lax.cond(top_p < 1.0, lambda x: keep_top_p(x, top_p), lambda x: x, filtered)
        noise = jax.vmap(lambda key: jax.random.gumbel(key, (logits.shape[-1],)))(keys)
        return jnp.argmax(filtered + noise, axis=-1)

    tokens = jax.lax.cond(greedy, lambda x: jnp.argmax(x, axis=-1), draw, scaled).astype(jnp.int32)
    chosen = jnp.take_along_axis(scaled, tokens[:, None], axis=-1)[:, 0]
    return tokens, chosen - jax.nn.logsumexp(scaled, axis=-1)
