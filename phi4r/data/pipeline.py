"""The training data: sources -> chat rendering -> mixing -> packing -> TokenBatch.

Batch n is a pure function of (seed, settings, data, n): see `phi4r.data.stream`. A checkpoint stores
`{"position": n}`, the number of the next batch, and nothing else.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import grain
import numpy as np

from phi4r.data.examples import measure_lengths, render_example, select_fitting
from phi4r.data.packing import Segment, pack_rows, stretched_positions
from phi4r.data.sources import Source, open_source
from phi4r.data.stream import POSITION_STREAM, ExampleOrder, Placed, RowStream
from phi4r.errors import UserError
from phi4r.model.inputs import TokenBatch, make_token_batch

if TYPE_CHECKING:
    from phi4r.text.chat import Chat


@dataclasses.dataclass(frozen=True)
class SourceSettings:
    """One source of a mixture.

    Attributes:
      spec: what `open_source` takes, as "jsonl:traces.jsonl".
      weight: its share of the examples is weight / sum of all weights.
    """

    spec: str
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The data section of an SFT config (section 3 of the paper; packing is [open], not in the paper).

    Attributes:
      sources: the mixture.
      row_length: T, tokens in a row.
      global_batch: B, rows in a batch, over all hosts.
      packing: "best_fit" puts several examples into a row, "none" one.
      overlong: "error" refuses examples of more than T tokens, "drop" leaves them out and counts them.
      window: how many examples are packed together.
      position_stretch: None for ordinary positions; else the positions of each example are a random subset of a range
        up to this many times as long, so that longer sequences than those trained are in range.
      num_threads: threads that read and tokenise ahead, and batches that they hold ready; 0 for none.
    """

    sources: tuple[SourceSettings, ...]
    row_length: int
    global_batch: int
    packing: Literal["best_fit", "none"] = "best_fit"
    overlong: Literal["error", "drop"] = "error"
    window: int = 4096
    position_stretch: float | None = None
    num_threads: int = 4

    def __post_init__(self):
        if not self.sources:
            raise UserError("the data section has no sources; give at least one, as {'spec': 'jsonl:traces.jsonl'}.")
        for source in self.sources:
            if not source.weight > 0:
                raise UserError(f"source {source.spec} has weight {source.weight}; give a positive one, or remove it.")
        for name in ("row_length", "global_batch", "window"):
            if getattr(self, name) < 1:
                raise UserError(f"data.{name}={getattr(self, name)} must be at least 1.")
        if self.position_stretch is not None and self.position_stretch < 1.0:
            raise UserError(f"data.position_stretch={self.position_stretch} must be at least 1, or None.")


@dataclasses.dataclass(frozen=True)
class DataStats:
    """What start-up found.

    Attributes:
      num_examples: rows that fit, over all sources.
      num_tokens: their tokens.
      longest: tokens of the longest.
      num_dropped: rows left out because they are too long.
      longest_dropped: tokens of the longest of them, 0 if there is none.
      fill: the share of packed rows that is not padding, over the first window.
      segments: examples of a packed row in the mean, over the first window.
    """

    num_examples: int
    num_tokens: int
    longest: int
    num_dropped: int
    longest_dropped: int
    fill: float
    segments: float

    def __str__(self) -> str:
        text = (
            f"{self.num_examples:,} examples with {self.num_tokens:,} tokens, the longest {self.longest:,}; rows are "
            f"{self.fill:.1%} full, with {self.segments:.1f} examples each"
        )
        if not self.num_dropped:
            return text
        return f"{text}; {self.num_dropped:,} are too long for a row and left out, the longest {self.longest_dropped:,}"


class TrainData:
    """Batches of packed rows, numbered from 0 without end.

    Attributes:
      stats: counts of examples and tokens, and the fill.
    """

    def __init__(
        self,
        settings: DataSettings,
        chat: "Chat",
        *,
        seed: int,
        sources: Sequence[Source] | None = None,
        process_index: int = 0,
        process_count: int = 1,
    ):
        """Opens the sources and measures every example once.

        Args:
          settings: the data section of a config.
          chat: renders a conversation to tokens and loss mask.
          seed: decides every order and every random position; not negative.
          sources: open sources to read in place of the specs in `settings`, one for each.
          process_index: which part of the rows of a batch this host reads.
          process_count: into how many parts the rows are cut; hosts that hold the same rows pass the same index.

        Raises:
          UserError: for a source that cannot be opened, a bad row, over-length rows (see `DataSettings.overlong`), or
            a global batch that does not divide over the hosts.
        """
        if settings.global_batch % process_count:
            raise UserError(
                f"data.global_batch={settings.global_batch} does not divide over {process_count} hosts;"
                " make it a multiple."
            )
        if sources is None:
            sources = [open_source(source.spec) for source in settings.sources]
        if len(sources) != len(settings.sources):
            raise ValueError(f"{len(sources)} open sources for {len(settings.sources)} in the settings")
        self._settings, self._chat, self._seed, self._sources = settings, chat, seed, sources
        lengths = [measure_lengths(s, chat, num_threads=settings.num_threads) for s in self._sources]
        self._selection = select_fitting(self._sources, lengths, settings.row_length, overlong=settings.overlong)
        weights = [source.weight for source in settings.sources]
        order = ExampleOrder([len(rows) for rows in self._selection.rows], weights, seed=seed)
        self._stream = RowStream(
            order,
            self._selection.lengths,
            row_length=settings.row_length,
            window=settings.window,
            pack=settings.packing == "best_fit",
            seed=seed,
        )
        self._host_rows = settings.global_batch // process_count
        self._host_first = process_index * self._host_rows
        self.stats = self._make_stats()

    def batch(self, number: int) -> TokenBatch:
        """Returns this host's rows of batch `number`: numpy arrays of [B / process_count, T]."""
        first = number * self._settings.global_batch + self._host_first
        rows = [
            [self._segment(placed) for placed in self._stream.row(row)] for row in range(first, first + self._host_rows)
        ]
        packed = pack_rows(rows, self._settings.row_length)
        return make_token_batch(packed.tokens, packed.segment_ids, packed.trained, packed.positions)

    def batches(self, start: int = 0) -> grain.DatasetIterator:
        """Returns an endless iterator over the batches from number `start`, made ahead by threads.

        To resume, start at the position that the checkpoint holds. `close()` ends the threads.
        """
        num_threads = self._settings.num_threads
        numbers = grain.MapDataset.range(start, sys.maxsize)
        options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_threads)
        return iter(numbers.map(self.batch).to_iter_dataset(options))

    def _segment(self, placed: Placed) -> Segment:
        """Renders one example of the stream."""
        source = self._sources[placed.source]
        row = int(self._selection.rows[placed.source][placed.row])
        example = render_example(source, row, self._chat)
        length = len(example.tokens)
        if length != self._selection.lengths[placed.source][placed.row]:
            raise UserError(f"{source.where(row)} has changed since the run began; restart the run.")
        if self._settings.position_stretch is None:
            return Segment(example.tokens, example.trained, np.arange(length))
        rng = np.random.default_rng([self._seed, POSITION_STREAM, placed.index])
        return Segment(
            example.tokens, example.trained, stretched_positions(length, self._settings.position_stretch, rng)
        )

    def _make_stats(self) -> DataStats:
        lengths = self._selection.lengths
        fill, segments = self._stream.first_window()
        return DataStats(
            num_examples=sum(len(source_lengths) for source_lengths in lengths),
            num_tokens=sum(int(source_lengths.sum(dtype=np.int64)) for source_lengths in lengths),
            longest=max(int(source_lengths.max()) for source_lengths in lengths),
            num_dropped=self._selection.num_dropped,
            longest_dropped=self._selection.longest_dropped,
            fill=fill,
            segments=segments,
        )
