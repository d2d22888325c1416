"""The jitted programs of the sampler: a chunk of prompts, copies of pages, and a burst of decode steps.

None of them knows how long sequences are: lengths, pages, limits and sampling parameters are traced. A program takes
the pool of pages and gives it back (donate it), reads it all the while, and writes it once, at its end.
"""

import flax.struct
import jax
import jax.numpy as jnp

from phi4r.model.kv_cache import NO_TOKEN, KVCache, Pages, open_cache, put_columns, write_pages
from phi4r.model.transformer import Transformer, unembed
from phi4r.sampling.logits import SamplingParams, choose_tokens
from phi4r.sampling.lookup import look_up_drafts
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
    history: Array | None = None  # [N S] int32: all its tokens, the next one included, to look drafts up in


@flax.struct.dataclass
class Drawn:
    """What a burst drew for N sequences: the first `counts` of each row."""

    tokens: Array  # [N U] int32
    logprobs: Array  # [N U] float32
    entropies: Array  # [N U] float32, in nats
    counts: Array  # [N] int32
    steps: Array  # [N] int32: in which it drew them
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

    cache: KVCache  # without pages
    tokens: Array  # [N], the next of each sequence
    active: Array  # [N] bool: may go on, after this burst if not in it
    history: Array | None  # [N S]
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
    draft_tokens: int = 0,
) -> tuple[Pages, Drawn]:
    """Draws `num_steps` tokens for every sequence, fewer where it ends; with drafts up to `draft_tokens` more.

    A step with drafts runs a guess at the next tokens of a sequence through the model along with the one that is known.
    Each token is drawn by the key of its place, as without drafts, and the guesses are kept as far as they are what
    was drawn: so the tokens are the same ones, in fewer steps.

    Args:
      model: an unrolled Transformer.
      params: unrolled parameters.
      pages: the pool.
      slots: the sequences.
      sampling: traced.
      num_steps: decode steps, and the least tokens of a sequence that does not end.
      longest: tokens that a sequence may come to have.
      eos_ids: tokens that end a response.
      end_think_id: the token that ends a thought; None where there is none to be forced.
      pad_id: token written where there is none.
      draft_tokens: D, guesses of a step; they need `slots.history`.
    """
    num_rows, width = slots.tokens.shape[0], num_steps + draft_tokens
    keys = jax.random.wrap_key_data(slots.keys)
    ahead = jnp.arange(1 + draft_tokens)[None]  # [1 T]: the tokens of a step
    cache = open_cache(pages, slots.table, slots.lengths, columns=width, longest=longest)
    empty = Drawn(
        tokens=jnp.full((num_rows, width), pad_id, jnp.int32),
        logprobs=jnp.zeros((num_rows, width), jnp.float32),
        entropies=jnp.zeros((num_rows, width), jnp.float32),
        counts=jnp.zeros(num_rows, jnp.int32),
        steps=jnp.zeros(num_rows, jnp.int32),
        ended=jnp.zeros(num_rows, bool),
        thinking=slots.thinking,
    )

    def choose(hidden: Array, state: _Decoding, drafts: Array) -> tuple[Array, Array, Array]:
        """Draws the token after each of [N T D] hidden states; all [N T]."""
        places = slots.drawn[:, None] + state.drawn.counts[:, None] + ahead  # in the response
        token_keys = jax.vmap(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))(keys, places)
        logits = constrain(unembed(hidden.reshape(-1, hidden.shape[-1]), params), "batch", "vocab")
        forced = None
        if end_think_id is not None:
            closed = jnp.cumsum(drafts == end_think_id, axis=1) > 0  # before the tokens after the first
            thinking = state.drawn.thinking[:, None] & ~jnp.pad(closed, ((0, 0), (1, 0)))
            over = thinking & (places >= jnp.asarray(sampling.max_thought, jnp.int32))
            forced = jnp.where(over, end_think_id, -1).reshape(-1)
        chosen = choose_tokens(logits, token_keys.reshape(-1), sampling, forced)
        return tuple(x.reshape(num_rows, -1) for x in chosen)

    def step(state: _Decoding) -> _Decoding:
        counts = state.drawn.counts
        working = state.active & (counts < num_steps)
        drafts = jnp.zeros((num_rows, 0), jnp.int32)
        if draft_tokens:
            drafts = look_up_drafts(state.history, slots.lengths + counts + 1, draft_tokens)
        seen = working[:, None] & jnp.pad(drafts >= 0, ((0, 0), (1, 0)), constant_values=True)
        hidden, cache = model.apply(
            {"params": params},
            jnp.concatenate([state.tokens[:, None], jnp.maximum(drafts, 0)], axis=1),
            seen.astype(jnp.int32),
            (slots.lengths + counts)[:, None] + ahead,
            state.cache.replace(pages=pages),
        )
        tokens, logprobs, entropies = choose(hidden, state, drafts)

        # How many of them count: up to the first that was not guessed, the end of the response, and its limit.
        guessed = jnp.cumprod(tokens[:, :-1] == drafts, axis=1)
        ends = jnp.isin(tokens, jnp.asarray(eos_ids, jnp.int32))
        open_before = jnp.cumsum(ends, axis=1) - ends == 0
        within = slots.drawn[:, None] + counts[:, None] + ahead < slots.limits[:, None]
        new = working[:, None] & jnp.pad(guessed, ((0, 0), (1, 0)), constant_values=1).astype(bool)
        new &= open_before & within
        ended = jnp.any(new & ends, axis=1)
        num_new = jnp.sum(new, axis=1, dtype=jnp.int32)
        counts = counts + num_new
        last = jnp.take_along_axis(tokens, jnp.maximum(num_new - 1, 0)[:, None], axis=1)[:, 0]
        active = state.active & ~ended & (slots.drawn + counts < slots.limits)
        thinking = state.drawn.thinking
        if end_think_id is not None:
            thinking = thinking & ~jnp.any(new & (tokens == end_think_id), axis=1)

        def write(written: Array, columns: Array, nothing: float) -> Array:
            columns = jnp.where(new, columns, nothing).astype(written.dtype)
            return put_columns(written, columns, state.cache.column, axis=1)

        drawn = Drawn(
            tokens=write(state.drawn.tokens, tokens, pad_id),
            logprobs=write(state.drawn.logprobs, logprobs, 0),
            entropies=write(state.drawn.entropies, entropies, 0),
            counts=counts,
            steps=state.drawn.steps + working,
            ended=state.drawn.ended | ended,
            thinking=thinking,
        )
        history = state.history
        if draft_tokens:
            # Guesses that were wrong are overwritten by the next step's tokens, and nobody sees them until then.
            held = jnp.where(jnp.arange(width)[None] < counts[:, None], cache.positions, NO_TOKEN)
            cache = cache.replace(column=counts, positions=held)
            history = put_columns(history, tokens, slots.lengths + 1 + state.drawn.counts, axis=1)
        return _Decoding(cache.replace(pages=None), jnp.where(active, last, pad_id), active, history, drawn)

    # Without drafts all sequences are in the same column, and what is written there is a slice.
    column = jnp.zeros(num_rows if draft_tokens else (), jnp.int32)
    cache = cache.replace(pages=None, column=column)
    start = _Decoding(cache, slots.tokens, slots.limits > 0, slots.history if draft_tokens else None, empty)
    state = jax.lax.while_loop(lambda s: jnp.any(s.active & (s.drawn.counts < num_steps)), step, start)
    return write_pages(state.cache.replace(pages=pages)), state.drawn
