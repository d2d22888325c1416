"""The jitted programs of the sampler: a chunk of prompts, copies of pages, and a burst of decode steps.

None of them knows how long sequences are: lengths, pages, limits and sampling parameters are traced. A program takes
the pool of pages and gives it back (donate it), reads it all the while, and writes it once, at its end.
"""

import flax.struct
import jax
import jax.numpy as jnp

from phi4r.model.kv_cache import KVCache, Pages, open_cache, write_pages
from phi4r.model.transformer import Transformer, unembed
from phi4r.sampling.logits import SamplingParams, choose_tokens
from phi4r.sharding import constrain
from phi4r.typing import Array, Params


@flax.struct.dataclass
class Slots:
    """N sequences that are decoded together, each with a token that the model has not yet seen."""

    table: Array  # [N M] int32: pages of each sequence, with room for all that a burst may add
    lengths: Array  # [N] int32: tokens in pages, which is the position of the next token
    tokens: Array  # [N] int32: the next token
    keys: Array  # [N 2] uint32: data of the random key of each sequence
    drawn: Array  # [N] int32: tokens of its response so far
    limits: Array  # [N] int32: the most tokens of its response; 0 in a slot without a sequence
    thinking: Array  # [N] bool: whether its thought is still open, for `SamplingParams.max_thought`


@flax.struct.dataclass
class Drawn:
    """What a burst of U steps drew for N sequences: the first `counts` of each row."""

    tokens: Array  # [N U] int32
    logprobs: Array  # [N U] float32
    entropies: Array  # [N U] float32, in nats
    counts: Array  # [N] int32
    ended: Array  # [N] bool: whether the last one is an end token
    thinking: Array  # [N] bool: whether the thought is still open


def prefill_chunk(
    model: Transformer,
    params: Params,
    pages: Pages,
    table: Array,
    starts: Array,
    tokens: Array,
    counts: Array,
    *,
    longest: int,
) -> Pages:
    """Runs the next tokens of R prompts through the model and returns the pages with them.

    Args:
      model: an unrolled Transformer.
      params: unrolled parameters.
      pages: the pool.
      table: [R M] pages of each prompt.
      starts: [R] tokens that are in pages already.
      tokens: [R C], of which the first `counts` are real.
      counts: [R], from 0 to C.
      longest: tokens that a sequence may come to have.
    """
    chunk = tokens.shape[1]
    places = jnp.arange(chunk)[None]
    cache = open_cache(pages, table, starts, columns=chunk, longest=longest)
    segments = (places < counts[:, None]).astype(jnp.int32)
    _, cache = model.apply({"params": params}, tokens, segments, starts[:, None] + places, cache)
    return write_pages(cache)


@flax.struct.dataclass
class _Decoding:
    """What a decode step takes and gives; the pages are read from outside."""

    step: Array  # []
    cache: KVCache  # without pages
    tokens: Array  # [N], the next of each sequence
    active: Array  # [N] bool
    drawn: Drawn


def decode_burst(
    model: Transformer,
    params: Params,
    pages: Pages,
    slots: Slots,
    sampling: SamplingParams,
    *,
    num_steps: int,
    longest: int,
    eos_ids: tuple[int, ...],
    end_think_id: int | None,
    pad_id: int,
) -> tuple[Pages, Drawn]:
    """Draws up to `num_steps` tokens for every sequence; ends when none is left that may go on.

    Args:
      model: an unrolled Transformer.
      params: unrolled parameters.
      pages: the pool.
      slots: the sequences.
      sampling: traced.
      num_steps: U.
      longest: tokens that a sequence may come to have.
      eos_ids: tokens that end a response.
      end_think_id: the token that ends a thought; None where there is none to be forced.
      pad_id: token written where there is none.
    """
    num_rows = slots.tokens.shape[0]
    keys = jax.random.wrap_key_data(slots.keys)
    cache = open_cache(pages, slots.table, slots.lengths, columns=num_steps, longest=longest)
    empty = Drawn(
        tokens=jnp.full((num_rows, num_steps), pad_id, jnp.int32),
        logprobs=jnp.zeros((num_rows, num_steps), jnp.float32),
        entropies=jnp.zeros((num_rows, num_steps), jnp.float32),
        counts=jnp.zeros(num_rows, jnp.int32),
        ended=jnp.zeros(num_rows, bool),
        thinking=slots.thinking,
    )
    start = _Decoding(jnp.zeros((), jnp.int32), cache.replace(pages=None), slots.tokens, slots.limits > 0, empty)

    def step(state: _Decoding) -> _Decoding:
        hidden, written = model.apply(
            {"params": params},
            state.tokens[:, None],
            state.active.astype(jnp.int32)[:, None],
            (slots.lengths + state.step)[:, None],
            state.cache.replace(pages=pages),
        )
        logits = constrain(unembed(hidden[:, -1], params), "batch", "vocab")
        token_keys = jax.vmap(jax.random.fold_in)(keys, slots.drawn + state.step)
        forced = None
        if end_think_id is not None:
            over = state.drawn.thinking & (slots.drawn + state.step >= jnp.asarray(sampling.max_thought, jnp.int32))
            forced = jnp.where(over, end_think_id, -1)
        tokens, logprobs, entropies = choose_tokens(logits, token_keys, sampling, forced)
        tokens = jnp.where(state.active, tokens, pad_id)
        ended = state.active & jnp.isin(tokens, jnp.asarray(eos_ids, jnp.int32))
        active = state.active & ~ended & (slots.drawn + state.step + 1 < slots.limits)
        thinking = state.drawn.thinking
        if end_think_id is not None:
            thinking = thinking & (tokens != end_think_id)

        def write(written: Array, column: Array) -> Array:
            column = jnp.where(state.active, column, 0)[:, None]
            return jax.lax.dynamic_update_slice_in_dim(written, column.astype(written.dtype), state.step, axis=1)

        drawn = Drawn(
            tokens=jax.lax.dynamic_update_slice_in_dim(state.drawn.tokens, tokens[:, None], state.step, axis=1),
            logprobs=write(state.drawn.logprobs, logprobs),
            entropies=write(state.drawn.entropies, entropies),
            counts=state.drawn.counts + state.active,
            ended=state.drawn.ended | ended,
            thinking=thinking,
        )
        return _Decoding(state.step + 1, written.replace(pages=None), tokens, active, drawn)

    state = jax.lax.while_loop(lambda s: (s.step < num_steps) & jnp.any(s.active), step, start)
    return write_pages(state.cache.replace(pages=pages)), state.drawn
