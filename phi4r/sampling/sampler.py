"""The host face of the sampler: lists of prompt ids in, Samples out, by continuous batching.

Between two bursts of decode steps the host looks at what was drawn: finished sequences leave, waiting ones take their
slots, prompts are prefilled in chunks, and every sequence gets the pages of its next tokens. When nobody waits any
more the batch shrinks with the sequences that are left.
"""

import collections
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from phi4r.errors import UserError
from phi4r.model.config import ModelConfig
from phi4r.model.int8 import DecodeWeights
from phi4r.model.kv_cache import PAGE_AXES, Pages, copy_pages, empty_pages
from phi4r.model.layouts import unroll_params, unrolled_shardings
from phi4r.model.transformer import Transformer
from phi4r.sampling.logits import SamplingParams
from phi4r.sampling.programs import Drawn, Slots, decode_burst, prefill_chunk
from phi4r.sampling.samples import FINISH_LENGTH, FINISH_STOP, Samples
from phi4r.sampling.slots import Books, Group
from phi4r.sampling.slots import Sequence as Response
from phi4r.sharding import batch_sharding, batch_shards, decoding_mesh, fitted_spec, put_whole
from phi4r.typing import Array, Params

FEWEST_ROWS = 8  # a smaller batch of decoding is hardly faster
PREFILL_TOKENS = 2048  # that one call takes on each device
LONGEST_CHUNK = 512  # tokens of one prompt in such a call

# Called as soon as a response is finished: (row, its tokens, whether it ended by itself).
OnFinished = Callable[[int, np.ndarray, bool], None]
# Looks at a response for a stop string: (tokens, how many of them are old) -> tokens to keep, or None to go on.
FindStop = Callable[[Sequence[int], int], int | None]


@dataclasses.dataclass(frozen=True)
class SamplerSettings:
    """The fixed shapes of a sampler.

    Attributes:
      prompt_length: tokens that a prompt may have.
      max_response: tokens that a response may have, its end token included.
      num_slots: sequences decoded at the same time, or None for all that are asked for.
      tensor: devices that share the weights of a layer; None for the `tensor` of the mesh. Decoding holds a copy of
        the weights in the dtype of activations, divided over these devices alone.
      cache_tokens: tokens for which the cache has pages, on all devices together; None for as many as all slots can
        come to need. Fewer are no mistake: where pages run out, the youngest sequence waits, and is prefilled again
        (`ModelConfig.kv_cache_bytes` says what a token takes).
      page_size: tokens of a page.
      burst: decode steps between two looks of the host.
      weights: "int8" to decode with rounded weights (`phi4r.model.int8`): faster, and another policy than the one that
        is trained.
    """

    prompt_length: int
    max_response: int
    num_slots: int | None = None
    tensor: int | None = None
    cache_tokens: int | None = None
    page_size: int = 128
    burst: int = 32
    weights: DecodeWeights = "float"

    def __post_init__(self):
        for name in ("prompt_length", "max_response", "page_size", "burst"):
            if getattr(self, name) < 1:
                raise UserError(f"sampler.{name}={getattr(self, name)} must be at least 1.")
        if self.num_slots is not None and self.num_slots < 1:
            raise UserError(f"sampler.num_slots={self.num_slots} must be at least 1, or None for all.")


@dataclasses.dataclass(frozen=True)
class SamplerStats:
    """How a call of `Sampler.sample` went.

    Attributes:
      steps: decode steps.
      slot_share: share of the rows of all steps that drew a token.
      evictions: sequences that had to wait because pages ran out.
      seconds: of the call.
      host_s: seconds that devices waited for the host between two programs.
    """

    steps: int
    slot_share: float
    evictions: int
    seconds: float
    host_s: float


class Sampler:
    """Samples responses with a few compiled programs; parameters are passed, never held.

    The random key of a token is a function of (key, prompt id, sample, token index), so what is sampled does not depend
    on slots, pages, the order of refills or devices.

    Attributes:
      settings: fixed shapes.
      mesh: of decoding (`phi4r.sharding.decoding_mesh`), or None for one device.
      unroll: the compiled change of layout, params -> unrolled params.
      stats: SamplerStats of the last call.
    """

    def __init__(
        self,
        config: ModelConfig,
        settings: SamplerSettings,
        *,
        eos_ids: Sequence[int],
        pad_id: int,
        end_think_id: int | None = None,
        mesh: Mesh | None = None,
    ):
        """Prepares the compiled functions; nothing is compiled before the first call.

        Args:
          config: the model; for a longrope one that is trained too, from `ModelConfig.for_length`.
          settings: fixed shapes.
          eos_ids: tokens that end a response.
          pad_id: written where there is no token.
          end_think_id: what closes a thought by force (`SamplingParams.max_thought`), if anything.
          mesh: rows are spread over its devices, and the parts of a layer over its `tensor` ones; None for one device.

        Raises:
          UserError: for a cache that cannot hold one sequence.
        """
        self.settings = settings
        self.config = config
        self.mesh = None if mesh is None else decoding_mesh(mesh, tensor=settings.tensor, heads=config.heads)
        self.shards = 1 if self.mesh is None else batch_shards(self.mesh)
        self.unroll = _unroll_fn(config, settings.weights, self.mesh)
        self.programs = SamplerPrograms(
            config,
            longest=settings.prompt_length + settings.max_response,
            num_steps=min(settings.burst, settings.max_response),
            eos_ids=tuple(eos_ids),
            end_think_id=end_think_id,
            pad_id=pad_id,
            mesh=self.mesh,
        )
        self.stats: SamplerStats | None = None
        self._pad_id = pad_id
        self._compiled_rows: set[int] = set()
        self.num_pages(self.shards)

    @property
    def pages_of_longest(self) -> int:
        """M, the pages of a sequence of full length."""
        return -(-self.programs.longest // self.settings.page_size)

    def slots(self, num_rows: int) -> int:
        """Returns how many sequences each part of the batch decodes at a time, of `num_rows` asked for."""
        wanted = num_rows if self.settings.num_slots is None else min(num_rows, self.settings.num_slots)
        return -(-wanted // self.shards)

    def num_pages(self, slots: int) -> int:
        """Returns the pages of each part of the batch, for `slots` sequences in it.

        Raises:
          UserError: if they cannot hold one sequence of full length.
        """
        least = self.pages_of_longest + 2  # page 0, and one for the copy of a prompt's last page
        if self.settings.cache_tokens is None:
            return slots * (self.pages_of_longest + 1) + 1
        pages = self.settings.cache_tokens // self.settings.page_size // self.shards
        if pages < least:
            raise UserError(
                f"sampler.cache_tokens={self.settings.cache_tokens} gives {pages} pages of {self.settings.page_size} "
                f"tokens to each of {self.shards} parts of the batch, and one sequence of {self.programs.longest} "
                f"tokens needs {least}; raise it to {least * self.settings.page_size * self.shards}, or lower "
                "max_response."
            )
        return min(pages, slots * (self.pages_of_longest + 1) + 1)

    def sample(
        self,
        unrolled: Params,
        prompts: Sequence[Sequence[int]],
        key: Array,
        *,
        prompt_ids: Sequence[int] | None = None,
        num_samples: int = 1,
        sampling: SamplingParams | None = None,
        on_finished: OnFinished | None = None,
        find_stop: FindStop | None = None,
    ) -> Samples:
        """Samples `num_samples` responses to each prompt.

        Args:
          unrolled: `sampler.unroll(params)`.
          prompts: token ids of each prompt.
          key: random key of this call, as `fold_in(key(seed), step)`.
          prompt_ids: stable number of each prompt, for its keys; default 0, 1, 2, ...
          num_samples: G.
          sampling: temperature and so on.
          on_finished: called for every response when it is finished, while others are still drawn.
          find_stop: looks for stop strings after every burst.

        Returns:
          Samples of numpy arrays with len(prompts) * G rows.

        Raises:
          UserError: for no prompts, an empty prompt or one longer than `prompt_length`.
        """
        self._check(prompts)
        sampling = sampling or SamplingParams()
        prompt_ids = range(len(prompts)) if prompt_ids is None else prompt_ids
        keys = np.asarray(_row_keys(key, jnp.asarray(list(prompt_ids), jnp.uint32), num_samples))
        limit = min(int(sampling.max_tokens), self.settings.max_response)
        groups = [
            [Response(i * num_samples + g, list(prompt), keys[i, g], limit) for g in range(num_samples)]
            for i, prompt in enumerate(prompts)
        ]
        run = _Run(self, unrolled, groups, sampling, on_finished, find_stop)
        with jax.set_mesh(self.mesh) if self.mesh is not None else _nothing():
            self.stats = run.run()
            self._compile_rest(unrolled, run)
        return self._collect([response for group in groups for response in group])

    def row_sizes(self, slots: int) -> list[int]:
        """Returns the rows of each part of the batch for which a burst is compiled, from all slots to the fewest."""
        sizes = [slots]
        while sizes[-1] > FEWEST_ROWS:
            sizes.append(max(FEWEST_ROWS, -(-sizes[-1] // 2)))
        return sizes

    def prefill_shape(self, slots: int) -> tuple[int, int]:
        """Returns (R, C): prompts of each part of the batch, and tokens of each, that one call of prefill takes."""
        chunk = min(LONGEST_CHUNK, -(-self.settings.prompt_length // 8) * 8)
        return max(1, min(slots, PREFILL_TOKENS // chunk)), chunk

    def to_mesh(self, rows: Any) -> Any:
        """Puts arrays that every host has on the mesh, rows over the parts of the batch."""
        if self.mesh is None:
            return rows
        return jax.tree.map(lambda x: put_whole(np.asarray(x), batch_sharding(self.mesh)), rows)

    def empty_slots(self, rows: int) -> Slots:
        """Returns slots without a sequence, for `rows` in each part of the batch; numpy."""
        count = rows * self.shards
        return Slots(
            table=np.zeros((count, self.pages_of_longest), np.int32),
            lengths=np.zeros(count, np.int32),
            tokens=np.full(count, self._pad_id, np.int32),
            keys=np.zeros((count, 2), np.uint32),
            drawn=np.zeros(count, np.int32),
            limits=np.zeros(count, np.int32),
            thinking=np.zeros(count, bool),
        )

    def _compile_rest(self, unrolled: Params, run: "_Run") -> None:
        """Compiles the sizes of batches that this call did not come through, so that no later call has to."""
        for rows in self.row_sizes(run.slots):
            if rows not in self._compiled_rows:
                run.burst(self.empty_slots(rows))

    def _check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Refuses prompts that cannot be answered."""
        if not prompts:
            raise UserError("there are no prompts to answer; give at least one.")
        for row, prompt in enumerate(prompts):
            if not 0 < len(prompt) <= self.settings.prompt_length:
                raise UserError(
                    f"prompt {row} has {len(prompt)} tokens; the sampler takes 1 to prompt_length="
                    f"{self.settings.prompt_length}. Raise prompt_length or drop the prompt."
                )

    def _collect(self, responses: list[Response]) -> Samples:
        """Returns finished responses as one rectangle."""
        width, start = self.programs.longest, self.settings.prompt_length
        shape = (len(responses), width)
        samples = Samples(
            tokens=np.full(shape, self._pad_id, np.int32),
            segment_ids=np.zeros(shape, np.int32),
            response_mask=np.zeros(shape, bool),
            logprobs=np.zeros(shape, np.float32),
            entropies=np.zeros(shape, np.float32),
            finish_reason=np.array([FINISH_STOP if r.stopped else FINISH_LENGTH for r in responses], np.int32),
        )
        for row, response in enumerate(responses):
            first, end = start - len(response.prompt), start + len(response.response)
            samples.tokens[row, first:start] = response.prompt
            samples.tokens[row, start:end] = response.response
            samples.segment_ids[row, first:end] = 1
            samples.response_mask[row, start:end] = True
            samples.logprobs[row, start:end] = np.concatenate(response.logprobs)[: end - start]
            samples.entropies[row, start:end] = np.concatenate(response.entropies)[: end - start]
        return samples


class _Run:
    """One call of `Sampler.sample`."""

    def __init__(self, sampler: Sampler, unrolled, groups, sampling, on_finished, find_stop):
        self.sampler = sampler
        self.slots = sampler.slots(sum(map(len, groups)))
        self._unrolled, self._sampling = unrolled, sampling
        self._on_finished, self._find_stop = on_finished, find_stop
        self._queue = collections.deque(Group(group[0].prompt[:-1], collections.deque(group)) for group in groups)
        num_pages, settings = sampler.num_pages(self.slots), sampler.settings
        self._books = [
            Books(num_slots=self.slots, num_pages=num_pages, page_size=settings.page_size)
            for _ in range(sampler.shards)
        ]
        self._pages = sampler.programs.empty(num_pages * sampler.shards, settings.page_size)
        self._row_sizes = sampler.row_sizes(self.slots)
        self._steps = self._row_steps = self._drawn = 0

    def run(self) -> SamplerStats:
        """Draws all responses."""
        started, waited = time.perf_counter(), 0.0
        finished: list[Response] = []
        while True:
            self._admit()
            self._prefill()
            self._begin()
            if not any(books.running for books in self._books):
                if not self._queue and not any(books.groups or books.evicted for books in self._books):
                    break
                continue
            rows, placed = self._place()
            drawn = self.burst(rows)
            dispatched = time.perf_counter()
            self._tell(finished)  # while the devices are busy
            drawn = jax.tree.map(np.asarray, drawn)
            waited += time.perf_counter() - dispatched
            finished = self._take(drawn, placed)
        self._tell(finished)
        seconds = time.perf_counter() - started
        return SamplerStats(
            steps=self._steps,
            slot_share=self._drawn / max(self._row_steps, 1),
            evictions=sum(books.num_evictions for books in self._books),
            seconds=seconds,
            host_s=seconds - waited,
        )

    def burst(self, rows: Slots) -> Drawn:
        """Dispatches a burst."""
        self.sampler._compiled_rows.add(len(rows.tokens) // self.sampler.shards)
        self._pages, drawn = self.sampler.programs.burst(
            self._unrolled, self._pages, self.sampler.to_mesh(rows), self._sampling
        )
        return drawn

    def _admit(self) -> None:
        """Gives waiting prompts pages, where slots will be free for their samples."""
        open_books = list(self._books)
        while open_books:
            books = min(open_books, key=lambda books: len(books.running) + sum(len(g.members) for g in books.groups))
            waiting = books.evicted or self._queue
            if not waiting or not books.wants_more or not books.admit(waiting[0]):
                open_books.remove(books)
                continue
            waiting.popleft()

    def _prefill(self) -> None:
        """Runs chunks of prompts through the model: one call where most slots are busy, else until they are."""
        sampler = self.sampler
        count, chunk = sampler.prefill_shape(self.slots)
        while True:
            groups = [books.unfilled(count) for books in self._books]
            if not any(groups):
                return
            rows = sampler.empty_slots(count)
            tokens = np.full((count * sampler.shards, chunk), sampler._pad_id, np.int32)
            counts = np.zeros(count * sampler.shards, np.int32)
            for part, unfilled in enumerate(groups):
                for row, group in enumerate(unfilled, start=part * count):
                    new = group.tokens[group.filled : group.filled + chunk]
                    rows.table[row, : len(group.pages)] = group.pages
                    rows.lengths[row] = group.filled
                    tokens[row, : len(new)] = new
                    counts[row] = len(new)
                    group.filled += len(new)
            arguments = sampler.to_mesh((rows.table, rows.lengths, tokens, counts))
            self._pages = sampler.programs.prefill(self._unrolled, self._pages, *arguments)
            ready = [
                len(books.running) + sum(len(group.members) for group in books.groups if group.ready)
                for books in self._books
            ]
            if min(ready) * 2 >= self.slots:
                return

    def _begin(self) -> None:
        """Lets ready sequences into free slots, and makes the copies of pages in which they will write."""
        copies = [books.begin() for books in self._books]
        size = self.slots
        for start in range(0, max(map(len, copies)), size):
            pairs = np.zeros((self.sampler.shards, size, 2), np.int32)
            for part, mine in enumerate(copies):
                mine = mine[start : start + size]
                pairs[part, : len(mine)] = np.array(mine, np.int32).reshape(-1, 2)
            sources, targets = self.sampler.to_mesh((pairs[..., 0].reshape(-1), pairs[..., 1].reshape(-1)))
            self._pages = self.sampler.programs.copy(self._pages, sources, targets)

    def _place(self) -> tuple[Slots, list[tuple[int, Books, Response]]]:
        """Returns the next burst's slots, and which sequence is in which row."""
        num_steps = self.sampler.programs.num_steps
        for books in self._books:
            books.grow(num_steps)
        most = max(len(books.running) for books in self._books)
        size = min(size for size in self._row_sizes if size >= most)
        rows = self.sampler.empty_slots(size)
        placed = []
        for part, books in enumerate(self._books):
            for row, response in enumerate(books.running, start=part * size):
                rows.table[row, : len(response.pages)] = response.pages
                rows.lengths[row] = response.length
                rows.tokens[row] = response.next_token
                rows.keys[row] = response.key
                rows.drawn[row] = len(response.response)
                rows.limits[row] = response.limit
                rows.thinking[row] = response.thinking
                placed.append((row, books, response))
        return rows, placed

    def _take(self, drawn: Drawn, placed: list[tuple[int, Books, Response]]) -> list[Response]:
        """Writes down what a burst drew; returns the responses that it finished, which leave their slots."""
        finished = []
        self._steps += int(drawn.counts.max())
        self._row_steps += int(drawn.counts.max()) * len(drawn.counts)
        self._drawn += int(drawn.counts.sum())
        for row, books, response in placed:
            count, old = int(drawn.counts[row]), len(response.response)
            response.response += drawn.tokens[row, :count].tolist()
            response.logprobs.append(drawn.logprobs[row, :count])
            response.entropies.append(drawn.entropies[row, :count])
            response.stopped, response.thinking = bool(drawn.ended[row]), bool(drawn.thinking[row])
            kept = self._find_stop(response.response, old) if self._find_stop else None
            if kept is not None:
                response.stopped = True
                del response.response[kept:]
            if response.stopped or len(response.response) >= response.limit:
                books.finish(response)
                finished.append(response)
        return finished

    def _tell(self, finished: list[Response]) -> None:
        """Calls `on_finished` for what the burst before finished."""
        if self._on_finished is not None:
            for response in finished:
                self._on_finished(response.row, np.asarray(response.response, np.int32), response.stopped)


class _nothing:
    """A context that does nothing."""

    def __enter__(self):
        return None

    def __exit__(self, *_):
        return None


class SamplerPrograms:
    """The compiled programs of a sampler; samplers of one model and shape share them.

    Attributes:
      longest: tokens that a sequence may come to have.
      num_steps: U, decode steps of a burst.
      empty: (num_pages, page_size) -> Pages, the pool of all parts of the batch.
      prefill: (unrolled, pages, table, starts, tokens, counts) -> pages; takes over the buffers of `pages`.
      copy: (pages, sources, targets) -> pages; so does this one.
      burst: (unrolled, pages, slots, sampling) -> (pages, Drawn on every host); and this one.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        longest: int,
        num_steps: int,
        eos_ids: tuple[int, ...],
        end_think_id: int | None,
        pad_id: int,
        mesh: Mesh | None,
    ):
        self.longest, self.num_steps = longest, num_steps
        self.empty = _empty_fn(config, mesh)
        self.prefill = _prefill_fn(config, longest, mesh)
        self.copy = _copy_fn(config, mesh)
        self.burst = _burst_fn(config, longest, num_steps, eos_ids, end_think_id, pad_id, mesh)


@functools.cache
def _unroll_fn(config: ModelConfig, weights: DecodeWeights, mesh: Mesh | None) -> Callable[[Params], Params]:
    """Returns the jitted change of layout, onto the mesh of decoding."""
    shardings = None if mesh is None else unrolled_shardings(config, mesh, weights)
    return jax.jit(functools.partial(unroll_params, config=config, weights=weights), out_shardings=shardings)


@functools.cache
def _empty_fn(config: ModelConfig, mesh: Mesh | None) -> Callable[[int, int], Pages]:
    return jax.jit(
        lambda num_pages, page_size: empty_pages(config, num_pages=num_pages, page_size=page_size),
        static_argnums=(0, 1),
        out_shardings=page_shardings(config, mesh),
    )


@functools.cache
def _prefill_fn(config: ModelConfig, longest: int, mesh: Mesh | None) -> Callable[..., Pages]:
    prefill = functools.partial(prefill_chunk, Transformer(config, unrolled=True), longest=longest)
    return jax.jit(prefill, donate_argnums=1, out_shardings=page_shardings(config, mesh))


@functools.cache
def _copy_fn(config: ModelConfig, mesh: Mesh | None) -> Callable[..., Pages]:
    return jax.jit(copy_pages, donate_argnums=0, out_shardings=page_shardings(config, mesh))


@functools.cache
def _burst_fn(
    config: ModelConfig,
    longest: int,
    num_steps: int,
    eos_ids: tuple[int, ...],
    end_think_id: int | None,
    pad_id: int,
    mesh: Mesh | None,
) -> Callable[..., tuple[Pages, Drawn]]:
    burst = functools.partial(
        decode_burst,
        Transformer(config, unrolled=True),
        num_steps=num_steps,
        longest=longest,
        eos_ids=eos_ids,
        end_think_id=end_think_id,
        pad_id=pad_id,
    )
    everywhere = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    return jax.jit(burst, donate_argnums=1, out_shardings=(page_shardings(config, mesh), everywhere))


def page_shardings(config: ModelConfig, mesh: Mesh | None) -> NamedSharding | None:
    """Returns how the pool lies on the mesh of decoding: pages over the parts of the batch, heads over `kv`."""
    if mesh is None:
        return None
    shape = (batch_shards(mesh), config.num_kv_heads, 1, config.head_dim)
    return NamedSharding(mesh, fitted_spec(mesh, PAGE_AXES, shape))


@functools.partial(jax.jit, static_argnums=2)
def _row_keys(key: Array, prompt_ids: Array, num_samples: int) -> Array:
    """Returns the data of the random key of every (prompt, sample); [P G 2] uint32."""
    fold = jax.random.fold_in
    samples = jnp.arange(num_samples, dtype=jnp.uint32)
    keys = jax.vmap(lambda prompt: jax.vmap(lambda sample: fold(fold(key, prompt), sample))(samples))(prompt_ids)
    return jax.random.key_data(keys)
