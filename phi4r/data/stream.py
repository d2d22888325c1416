"""The endless stream that training reads, as two pure functions of a number.

    ExampleOrder   i -> (source, row): which example is the i-th; a function of (seed, weights, sizes, i)
    RowStream      r -> the examples of packed row r; examples are packed in windows of a fixed number, and rows
                   counted through all windows

Nothing here depends on the number of hosts or threads, nor on what was read before. So the position of a run is one
integer, and a resumed run, also one on another number of hosts, reads the rows that it would have read.
"""

import bisect
import dataclasses
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from phi4r.data.packing import PackPlan, plan_rows

# Keep the streams of random numbers apart that are drawn from one seed.
EPOCH_STREAM, WINDOW_STREAM, POSITION_STREAM = 0, 1, 2
SHARE_UNITS = 1 << 20  # weights are rounded to this many parts of their sum
KEPT_WINDOWS = 4  # more than the batches of a few threads reach into


class ExampleOrder:
    """Mixes sources by weight, each shuffled anew in every epoch.

    In every stretch of the stream each source has its share of examples, to within a few (one for each source). An
    epoch of a source is a permutation of its rows drawn from (seed, source, epoch): none is left out or seen twice
    before the next epoch begins. A source that is small for its weight is repeated more often.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], *, seed: int):
        """Stores the shares.

        Args:
          sizes: rows of each source, all positive.
          weights: of each source, positive; its share of the *examples* is weight / sum of weights.
          seed: not negative.
        """
        self._sizes, self._seed = tuple(sizes), seed
        self._shares = [max(1, round(weight / sum(weights) * SHARE_UNITS)) for weight in weights]
        self._epochs: dict[int, tuple[int, np.ndarray]] = {}  # source -> its latest (epoch, permutation)

    def addresses(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the source and the row of the examples first..first+count-1 of the stream, [count] int64 each.

        Of the first k examples, source 0 with share p of n supplies k - floor(k (n - p) / n); what is left is divided
        among the other sources in the same way.
        """
        sources, rows = np.empty(count, np.int64), np.empty(count, np.int64)
        prefix = np.arange(first, first + count + 1)  # k for each boundary between examples
        remaining = sum(self._shares)
        for source, share in enumerate(self._shares):
            others = prefix * (remaining - share) // remaining
            supplied = prefix - others
            here = np.flatnonzero(np.diff(supplied))
            sources[here] = source
            rows[here] = self._rows(source, supplied[here])
            prefix, remaining = others, remaining - share
        return sources, rows

    def _rows(self, source: int, draws: np.ndarray) -> np.ndarray:
        """Returns the rows that the draws number `draws` (ascending) from `source` give."""
        epochs, places = np.divmod(draws, self._sizes[source])
        rows = np.empty_like(draws)
        for epoch in np.unique(epochs).tolist():
            inside = epochs == epoch
            rows[inside] = self._permutation(source, epoch)[places[inside]]
        return rows

    def _permutation(self, source: int, epoch: int) -> np.ndarray:
        latest = self._epochs.get(source)
        if latest is None or latest[0] != epoch:
            rng = np.random.default_rng([self._seed, EPOCH_STREAM, source, epoch])
            latest = self._epochs[source] = (epoch, rng.permutation(self._sizes[source]))
        return latest[1]


class Placed(NamedTuple):
    """One example in the stream."""

    index: int  # in the stream
    source: int
    row: int  # in the source


@dataclasses.dataclass(frozen=True)
class _Window:
    """The examples first..first+W-1 of the stream and their plan."""

    first: int
    sources: np.ndarray  # [W]
    rows: np.ndarray  # [W]
    plan: PackPlan


class RowStream:
    """Packed rows, counted through windows of `window` examples; safe to ask from several threads.

    A window is packed for itself, so its plan is a pure function of (seed, window number). How many rows it has is
    known once it is planned: the first request for row r plans all windows before it, once, and keeps only their
    numbers of rows (about half a second for a million examples). The last row of a window is closed as it is.
    """

    def __init__(
        self,
        order: ExampleOrder,
        lengths: Sequence[np.ndarray],
        *,
        row_length: int,
        window: int,
        pack: bool,
        seed: int,
    ):
        """Plans nothing yet.

        Args:
          order: the stream of examples.
          lengths: tokens of every row of every source, between 1 and `row_length`.
          row_length: T.
          window: W, how many examples are packed together.
          pack: whether rows hold several examples, or one each.
          seed: shuffles the rows of a window.
        """
        self._order, self._lengths = order, lengths
        self._row_length, self._window, self._pack, self._seed = row_length, window, pack, seed
        self._first_rows = [0]  # first row of each planned window, and of the next one
        self._kept: dict[int, _Window] = {}
        self._lock = threading.Lock()

    def row(self, number: int) -> list[Placed]:
        """Returns the examples of row `number` >= 0, in the order in which they stand there."""
        with self._lock:
            while self._first_rows[-1] <= number:
                window = self._plan(len(self._first_rows) - 1)
                self._first_rows.append(self._first_rows[-1] + window.plan.num_rows)
            index = bisect.bisect_right(self._first_rows, number) - 1
            window = self._plan(index)
            members = window.plan.row(number - self._first_rows[index])
        return [
            Placed(window.first + int(member), int(window.sources[member]), int(window.rows[member]))
            for member in members
        ]

    def first_window(self) -> tuple[float, float]:
        """Returns the share of the first window's rows that is not padding, and the examples of a row in the mean."""
        with self._lock:
            window = self._plan(0)
        tokens = self._window_lengths(window.sources, window.rows).sum(dtype=np.int64)
        num_rows = window.plan.num_rows
        return float(tokens / (num_rows * self._row_length)), len(window.rows) / num_rows

    def _plan(self, index: int) -> _Window:
        """Returns a window; the latest few are kept."""
        if index not in self._kept:
            first = index * self._window
            sources, rows = self._order.addresses(first, self._window)
            rng = np.random.default_rng([self._seed, WINDOW_STREAM, index])
            plan = plan_rows(self._window_lengths(sources, rows), self._row_length, pack=self._pack, rng=rng)
            if len(self._kept) == KEPT_WINDOWS:
                del self._kept[next(iter(self._kept))]
            self._kept[index] = _Window(first, sources, rows, plan)
        return self._kept[index]

    def _window_lengths(self, sources: np.ndarray, rows: np.ndarray) -> np.ndarray:
        lengths = np.empty(len(sources), np.int64)
        for source, source_lengths in enumerate(self._lengths):
            here = sources == source
            lengths[here] = source_lengths[rows[here]]
        return lengths
