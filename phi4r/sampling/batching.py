"""Continuous batching: one call of the sampler, from the first prompt to the last response.

Between two bursts of decode steps the host looks at what was drawn: finished sequences leave, waiting ones take their
slots, prompts are prefilled in chunks, and every sequence gets the pages of its next tokens. When nobody waits any
more the batch shrinks with the sequences that are left.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from phi4r.model.kv_cache import Pages
from phi4r.sampling.programs import Drawn, Slots
from phi4r.sampling.slots import Books, Group, Response

if TYPE_CHECKING:
    from phi4r.sampling.sampler import Sampler

# Called with what was drawn, after every burst: (row, the next tokens of its response).
OnTokens = Callable[[int, list[int]], None]
# Called as soon as a response is finished: (row, its tokens, whether it ended by itself).
OnFinished = Callable[[int, np.ndarray, bool], None]
# Looks at a response for a stop string: (tokens, how many of them are old) -> tokens to keep, or None to go on.
FindStop = Callable[[Sequence[int], int], int | None]


@dataclasses.dataclass(frozen=True)
class SamplerStats:
    """How a call of `Sampler.sample` went.

    Attributes:
      steps: decode steps.
      slot_share: share of the rows of all steps that drew a token.
      tokens_per_step: of a sequence in a step; above 1 where drafts were right.
      evictions: sequences that had to wait because pages ran out.
      seconds: of the call.
      host_s: seconds from the end of a burst to the start of the next, prefill and compilation included.
    """

    steps: int
    slot_share: float
    tokens_per_step: float
    evictions: int
    seconds: float
    host_s: float


class Batching:
    """One call of `Sampler.sample`: the queue, the books of each part of the batch, and the pool of pages."""

    def __init__(self, sampler: "Sampler", unrolled, groups, sampling, on_tokens, on_finished, find_stop):
        self.sampler = sampler
        self.slots = sampler.slots(sum(map(len, groups)))
        self._unrolled, self._sampling = unrolled, sampling
        self._on_tokens, self._on_finished, self._find_stop = on_tokens, on_finished, find_stop
        self._news: list[tuple[int, list[int]]] = []  # of the burst before, where somebody wants them
        self._queue = collections.deque(Group(group[0].prompt[:-1], collections.deque(group)) for group in groups)
        num_pages, settings = sampler.num_pages(self.slots), sampler.settings
        self._books = [
            Books(num_slots=self.slots, num_pages=num_pages, page_size=settings.page_size)
            for _ in range(sampler.shards)
        ]
        self._pages = sampler.programs.empty(num_pages * sampler.shards, settings.page_size)
        self._row_sizes = sampler.row_sizes(self.slots)
        self._steps = self._row_steps = self._used = self._drawn = 0

    def run(self) -> SamplerStats:
        """Draws all responses."""
        started = idle_since = time.perf_counter()
        idle = 0.0
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
            idle += time.perf_counter() - idle_since
            self._tell(finished)  # while the devices are busy
            drawn = jax.tree.map(np.asarray, drawn)
            idle_since = time.perf_counter()
            finished = self._take(drawn, placed)
        self._tell(finished)
        return SamplerStats(
            steps=self._steps,
            slot_share=self._used / max(self._row_steps, 1),
            tokens_per_step=self._drawn / max(self._used, 1),
            evictions=sum(books.num_evictions for books in self._books),
            seconds=time.perf_counter() - started,
            host_s=idle,
        )

    def burst(self, rows: Slots) -> Drawn:
        """Dispatches a burst."""
        self.sampler.compiled_rows.add(len(rows.tokens) // self.sampler.shards)
        programs = self.sampler.programs
        burst = programs.burst if rows.history is None else programs.drafting_burst
        pages, drawn = burst(self._unrolled, self._pages, self.sampler.to_mesh(rows), self._sampling)
        self._keep(pages)
        return drawn

    def _keep(self, pages: Pages) -> None:
        """Takes the pool back from a program.

        The devices of a CPU's mesh share a few threads, and programs in flight together can wait for each other's for
        ever: there each one ends before the next begins.
        """
        mesh = self.sampler.mesh
        if mesh is not None and mesh.devices.flat[0].platform == "cpu":
            jax.block_until_ready(pages)
        self._pages = pages

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
        sizes = self.sampler.prefill_sizes(self.slots)
        while True:
            groups = [books.unfilled(sizes[0]) for books in self._books]
            if not any(groups):
                return
            self.prefill(min(size for size in sizes if size >= max(map(len, groups))), groups)
            ready = [
                len(books.running) + sum(len(group.members) for group in books.groups if group.ready)
                for books in self._books
            ]
            if min(ready) * 2 >= self.slots:
                return

    def prefill(self, count: int, groups: Sequence[Sequence[Group]]) -> None:
        """Dispatches the next chunk of up to `count` prompts in each part of the batch."""
        sampler, (_, chunk) = self.sampler, self.sampler.prefill_shape(self.slots)
        sampler.compiled_prefills.add(count)
        table = np.zeros((count * sampler.shards, sampler.pages_of_longest), np.int32)
        starts = np.zeros(count * sampler.shards, np.int32)
        tokens = np.full((count * sampler.shards, chunk), sampler.pad_id, np.int32)
        counts = np.zeros(count * sampler.shards, np.int32)
        for part, unfilled in enumerate(groups):
            for row, group in enumerate(unfilled, start=part * count):
                new = group.tokens[group.filled : group.filled + chunk]
                table[row, : len(group.pages)] = group.pages
                starts[row] = group.filled
                tokens[row, : len(new)] = new
                counts[row] = len(new)
                group.filled += len(new)
        arguments = sampler.to_mesh((table, starts, tokens, counts))
        self._keep(sampler.programs.prefill(self._unrolled, self._pages, *arguments))

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
            self._keep(self.sampler.programs.copy(self._pages, sources, targets))

    def _place(self) -> tuple[Slots, list[tuple[int, Books, Response]]]:
        """Returns the next burst's slots, and which sequence is in which row."""
        for books in self._books:
            books.grow(self.sampler.programs.most_new)
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
                if rows.history is not None:
                    start = len(response.prompt)
                    rows.history[row, :start] = response.prompt
                    rows.history[row, start : start + len(response.response)] = response.response
                placed.append((row, books, response))
        return rows, placed

    def _take(self, drawn: Drawn, placed: list[tuple[int, Books, Response]]) -> list[Response]:
        """Writes down what a burst drew; returns the responses that it finished, which leave their slots."""
        finished = []
        self._steps += int(drawn.steps.max())
        self._row_steps += int(drawn.steps.max()) * len(drawn.steps)
        self._used += int(drawn.steps.sum())
        self._drawn += int(drawn.counts.sum())
        for row, books, response in placed:
            count, old = int(drawn.counts[row]), len(response.response)
            response.response.extend(drawn.tokens[row, :count].tolist())
            response.logprobs.append(drawn.logprobs[row, :count])
            response.entropies.append(drawn.entropies[row, :count])
            response.stopped, response.thinking = bool(drawn.ended[row]), bool(drawn.thinking[row])
            kept = self._find_stop(response.response, old) if self._find_stop else None
            if kept is not None:
                response.stopped = True
                del response.response[kept:]
            if self._on_tokens is not None:
                self._news.append((response.row, response.response[old:].tolist()))
            if response.stopped or len(response.response) >= response.limit:
                books.finish(response)
                finished.append(response)
        return finished

    def _tell(self, finished: list[Response]) -> None:
        """Calls `on_tokens` and `on_finished` for what the burst before drew and finished."""
        for row, tokens in self._news:
            self._on_tokens(row, tokens)
        self._news.clear()
        if self._on_finished is not None:
            for response in finished:
                self._on_finished(response.row, np.asarray(response.response, np.int32), response.stopped)
