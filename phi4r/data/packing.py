"""Packing: examples of many lengths into rows of one length.

With 8.3B tokens in 1.4M examples (5.9k on average) rows of 32,768 hold about 5.5 examples each, so packing saves as
much over one padded example a row. Examples are never cut: best-fit-decreasing bin packing leaves a per cent or two
empty on such data (Ding et al. 2024, "Fewer Truncations Improve Language Modeling").
"""

import bisect
import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


def best_fit(lengths: np.ndarray, row_length: int) -> np.ndarray:
    """Assigns each example to a row by best-fit-decreasing.

    Longest first (equal lengths in their order), an example goes to the fullest row that still has room, or opens a
    new one. The result depends on nothing else. At worst it takes 11/9 of the fewest possible rows, plus one.

    Args:
      lengths: [E] int, each between 1 and `row_length`.
      row_length: T, the room in a row.

    Returns:
      [E] int32: the row of each example; rows are numbered from 0 in the order in which they were opened.

    Raises:
      ValueError: for a length outside the range.
    """
    lengths = np.asarray(lengths)
    if len(lengths) and not (lengths.min() >= 1 and lengths.max() <= row_length):
        raise ValueError(f"lengths must be between 1 and {row_length}, not {lengths.min()} to {lengths.max()}")
    rows = np.empty(len(lengths), np.int32)
    num_rows = 0
    rooms: list[int] = []  # the distinct amounts of room left in open rows, sorted
    rows_with_room: dict[int, list[int]] = {}
    order = np.argsort(-lengths, kind="stable")
    for example, length in zip(order.tolist(), lengths[order].tolist(), strict=True):
        best = bisect.bisect_left(rooms, length)
        if best == len(rooms):
            row, room = num_rows, row_length
            num_rows += 1
        else:
            room = rooms[best]
            row = rows_with_room[room].pop()
            if not rows_with_room[room]:
                del rooms[best], rows_with_room[room]
        rows[example] = row
        room -= length
        if room in rows_with_room:
            rows_with_room[room].append(row)
        elif room:
            bisect.insort(rooms, room)
            rows_with_room[room] = [row]
    return rows


@dataclasses.dataclass(frozen=True)
class PackPlan:
    """Which examples fill each row.

    Attributes:
      examples: [E] int64, examples grouped by row; in a row they keep their order.
      starts: [R + 1] int64, where the rows begin in `examples`.
    """

    examples: np.ndarray
    starts: np.ndarray

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.starts) - 1

    def row(self, index: int) -> np.ndarray:
        """Returns the examples of row `index`."""
        return self.examples[self.starts[index] : self.starts[index + 1]]


def plan_rows(lengths: np.ndarray, row_length: int, *, pack: bool, rng: np.random.Generator) -> PackPlan:
    """Packs examples into rows, in random order of the rows; or gives each a row of its own, in the examples' order.

    Best-fit-decreasing opens rows from the longest example to the shortest; taken in that order a run would see all
    long examples first, so packed rows are shuffled.

    Args:
      lengths: [E] int, each between 1 and `row_length`; E is at least 1.
      row_length: T.
      pack: whether rows hold several examples, or one each.
      rng: decides the order of packed rows.
    """
    if not pack:
        return PackPlan(np.arange(len(lengths)), np.arange(len(lengths) + 1))
    rows = best_fit(lengths, row_length)
    num_rows = int(rows.max()) + 1
    rows = rng.permutation(num_rows)[rows]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_rows))])
    return PackPlan(np.argsort(rows, kind="stable"), starts)


class Segment(NamedTuple):
    """One example, ready to stand in a row."""

    tokens: Sequence[int]  # [n]
    trained: Sequence[bool]  # [n]: whether the token itself is to be learnt
    positions: Sequence[int]  # [n]


class PackedRows(NamedTuple):
    """The arrays that `phi4r.model.inputs.make_token_batch` takes."""

    tokens: np.ndarray  # [B T] int32, 0 where there is padding
    segment_ids: np.ndarray  # [B T] int32: 1, 2, ... in each row; 0 is padding, whatever the token there
    trained: np.ndarray  # [B T] bool
    positions: np.ndarray  # [B T] int32


def pack_rows(rows: Sequence[Sequence[Segment]], row_length: int) -> PackedRows:
    """Lays the segments of each row side by side, and pads on the right.

    Args:
      rows: B rows of segments.
      row_length: T.

    Raises:
      ValueError: if the segments of a row are longer than T together.
    """
    shape = (len(rows), row_length)
    packed = PackedRows(
        np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool), np.zeros(shape, np.int32)
    )
    for index, segments in enumerate(rows):
        start = 0
        for segment_id, segment in enumerate(segments, start=1):
            end = start + len(segment.tokens)
            if end > row_length:
                raise ValueError(f"row {index} needs {end} tokens or more, and has {row_length}")
            packed.tokens[index, start:end] = segment.tokens
            packed.segment_ids[index, start:end] = segment_id
            packed.trained[index, start:end] = segment.trained
            packed.positions[index, start:end] = segment.positions
            start = end
    return packed


def stretched_positions(length: int, stretch: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a sorted random subset of a range up to `stretch` times as long, to stand for the positions 0..length-1.

    Random positions (Ruoss et al. 2023, "Randomized Positional Encodings Boost Length Generalization of
    Transformers", section 3) show short training examples at distances that only longer ones will have. Here the range
    is drawn anew for each example, uniformly between `length` and `stretch * length`: the sampler counts positions one
    by one, and a model that never saw them close together copies badly when they are.

    Args:
      length: n.
      stretch: how much longer than the example the range may be, at least 1.
      rng: draws the range and the subset.

    Returns:
      [n] int32, strictly increasing.
    """
    drawn = int(np.ceil(rng.uniform(1.0, stretch) * length))
    return np.sort(rng.choice(drawn, length, replace=False)).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class PackReport:
    """How well examples fill rows of one length.

    Attributes:
      row_length: T.
      num_examples: how many fit into a row.
      num_tokens: of these.
      num_rows: how many rows they take.
      most_segments: examples in the row that has most.
      num_overlong: examples longer than a row, which are in none.
      longest: tokens of the longest example, overlong or not; 0 for no example.
    """

    row_length: int
    num_examples: int = 0
    num_tokens: int = 0
    num_rows: int = 0
    most_segments: int = 0
    num_overlong: int = 0
    longest: int = 0

    @property
    def fill(self) -> float:
        """The share of all rows that is not padding."""
        return self.num_tokens / (self.num_rows * self.row_length) if self.num_rows else 0.0

    @property
    def mean_segments(self) -> float:
        """Examples in a row, in the mean."""
        return self.num_examples / self.num_rows if self.num_rows else 0.0

    def __str__(self) -> str:
        text = (
            f"{self.num_examples:,} examples with {self.num_tokens:,} tokens in {self.num_rows:,} rows of "
            f"{self.row_length:,}: fill {100 * self.fill:.2f}%, {self.mean_segments:.2f} segments a row in the mean "
            f"and {self.most_segments} at most"
        )
        if not self.num_overlong:
            return f"{text}; none is longer than a row (the longest has {self.longest:,})"
        return f"{text}; {self.num_overlong:,} are longer than a row, the longest {self.longest:,}, and in none"


def pack_report(shards: Iterable[np.ndarray], row_length: int) -> PackReport:
    """Packs examples shard by shard, as the windows of training are, and counts.

    Only the shard at hand is in memory. Where a shard ends rows are closed, so small shards cost fill: a few thousand
    examples each cost next to nothing.

    Args:
      shards: [e] int each, lengths of at least 1, also of examples that no row can hold.
      row_length: T.
    """
    report = PackReport(row_length)
    for shard in shards:
        lengths = np.asarray(shard)
        fitting = lengths[lengths <= row_length]
        segments = np.bincount(best_fit(fitting, row_length)) if len(fitting) else np.zeros(0, np.int64)
        report = PackReport(
            row_length,
            num_examples=report.num_examples + len(fitting),
            num_tokens=report.num_tokens + int(fitting.sum(dtype=np.int64)),
            num_rows=report.num_rows + len(segments),
            most_segments=max(report.most_segments, int(segments.max(initial=0))),
            num_overlong=report.num_overlong + len(lengths) - len(fitting),
            longest=max(report.longest, int(lengths.max(initial=0))),
        )
    return report
