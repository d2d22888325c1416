"""The jitted sampler: prefill the prompts once, share them among their samples, then decode in a while loop.

The life of a batch of P prompts with G samples each (B = P * G rows):

1. Prompts arrive padded on the left to one fixed length, so every row writes the same cache slot at every step.
2. Prefill runs the P prompts through the model into a cache with room for prompt and response.
3. Cache and last hidden state are repeated G times.
4. Each step turns hidden states into logits, draws a token for every row, writes it down, and runs it through the
   model. A row that has drawn an end token goes on as padding; the loop ends when all rows have, or at the limit.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from phi4r.model.inputs import segment_positions
from phi4r.model.kv_cache import KVCache, empty_cache
from phi4r.model.transformer import Transformer, unembed
from phi4r.sampling.logits import SamplingParams, choose_tokens
from phi4r.sharding import constrain
from phi4r.typing import Array, Params

FINISH_STOP, FINISH_LENGTH = 0, 1


@flax.struct.dataclass
class Samples:
    """B rows of prompt and response, S = prompt length + response length; rows i*G..i*G+G-1 answer prompt i."""

    tokens: Array  # [B S] int32
    segment_ids: Array  # [B S] int32: 1 on prompt and response, 0 on the padding left and right of them
    response_mask: Array  # [B S] bool: the tokens that the model drew, its end token included
    logprobs: Array  # [B S] float32: of each drawn token given those before it; 0 elsewhere
    finish_reason: Array  # [B] int32: FINISH_STOP or FINISH_LENGTH

    @property
    def lengths(self) -> Array:
        """Length of each response in tokens, the end token included; [B] int32."""
        return self.response_mask.sum(axis=1, dtype="int32")


@flax.struct.dataclass
class _Decoding:
    """What a decode step takes and gives."""

    step: Array  # []
    hidden: Array  # [B D], of the last token of each row
    cache: KVCache
    position: Array  # [B], of the next token
    done: Array  # [B] bool
    tokens: Array  # [B R]
    logprobs: Array  # [B R]
    drawn: Array  # [B R] bool


def sample_rows(
    model: Transformer,
    params: Params,
    prompts: Array,
    prompt_segments: Array,
    keys: Array,
    sampling: SamplingParams,
    *,
    num_samples: int,
    max_response: int,
    eos_ids: tuple[int, ...],
    pad_id: int,
) -> Samples:
    """Samples `num_samples` responses to every prompt; to be jitted by the caller.

    Args:
      model: an unrolled Transformer.
      params: unrolled parameters.
      prompts: [P Tp] int32, padded on the left.
      prompt_segments: [P Tp] int32, 1 on the prompt and 0 on its padding; an all-0 row is a dummy that draws nothing.
      keys: [P G 2] uint32, the data of random keys.
      sampling: traced.
      num_samples: G.
      max_response: R, the most tokens of a response: the room in the cache and in the result.
      eos_ids: tokens that end a response.
      pad_id: token written where there is none.
    """
    prompt_length = prompts.shape[1]
    hidden, cache = prefill(model, params, prompts, prompt_segments, capacity=prompt_length + max_response)

    def repeat(x: Array) -> Array:
        return jnp.repeat(x, num_samples, axis=0) if x.ndim else x

    prompts, prompt_segments = repeat(prompts), repeat(prompt_segments)
    batch = prompts.shape[0]
    keys = jax.random.wrap_key_data(keys.reshape(batch, -1))
    limit = jnp.minimum(jnp.asarray(sampling.max_tokens, jnp.int32), max_response)
    state = _Decoding(
        step=jnp.zeros((), jnp.int32),
        hidden=repeat(hidden),
        cache=jax.tree.map(repeat, cache),
        position=prompt_segments.sum(axis=1, dtype=jnp.int32),
        done=prompt_segments[:, -1] == 0,
        tokens=jnp.full((batch, max_response), pad_id, jnp.int32),
        logprobs=jnp.zeros((batch, max_response), jnp.float32),
        drawn=jnp.zeros((batch, max_response), bool),
    )

    def body(state: _Decoding) -> _Decoding:
        return _decode_step(model, params, state, keys, sampling, eos_ids=eos_ids, pad_id=pad_id)

    state = jax.lax.while_loop(lambda s: (s.step < limit) & ~jnp.all(s.done), body, state)
    before = jnp.zeros(prompts.shape, bool)
    return Samples(
        tokens=jnp.concatenate([prompts, state.tokens], axis=1),
        segment_ids=jnp.concatenate([prompt_segments, state.drawn.astype(jnp.int32)], axis=1),
        response_mask=jnp.concatenate([before, state.drawn], axis=1),
        logprobs=jnp.concatenate([before.astype(jnp.float32), state.logprobs], axis=1),
        finish_reason=jnp.where(state.done, FINISH_STOP, FINISH_LENGTH),
    )


def prefill(
    model: Transformer, params: Params, prompts: Array, segments: Array, *, capacity: int
) -> tuple[Array, KVCache]:
    """Runs the prompts through the model; returns the hidden state of the last token [P D] and the filled cache."""
    cache = empty_cache(model.config, batch=prompts.shape[0], capacity=capacity)
    positions = segment_positions(segments, xp=jnp)
    hidden, cache = model.apply({"params": params}, prompts, segments, positions, cache, prefill=True)
    return hidden[:, -1], cache


def _decode_step(
    model: Transformer, params: Params, state: _Decoding, keys: Any, sampling: SamplingParams, *, eos_ids, pad_id
) -> _Decoding:
    """Draws one token for every row that is not done, and runs it through the model."""
    logits = constrain(unembed(state.hidden, params), "batch", "vocab")
    token_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, state.step)
    tokens, logprobs = choose_tokens(logits, token_keys, sampling)
    active = ~state.done
    tokens = jnp.where(active, tokens, pad_id)
    hidden, cache = model.apply(
        {"params": params}, tokens[:, None], active.astype(jnp.int32)[:, None], state.position[:, None], state.cache
    )

    def write(column: Array, written: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(written, column[:, None], state.step, axis=1)

    return _Decoding(
        step=state.step + 1,
        hidden=hidden[:, -1],
        cache=cache,
        position=state.position + active,
        done=state.done | jnp.isin(tokens, jnp.asarray(eos_ids)),
        tokens=write(tokens, state.tokens),
        logprobs=write(jnp.where(active, logprobs, 0.0), state.logprobs),
        drawn=write(active, state.drawn),
    )
