"""From a row of a source to tokens, and how long all of them are."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import grain
import numpy as np

from phi4r.data.records import training_messages
from phi4r.data.sources import Source
from phi4r.errors import UserError
from phi4r.metrics.progress import Progress

if TYPE_CHECKING:
    from phi4r.text.chat import Chat, Example

CHUNK = 64  # rows measured in one task of a thread


def render_example(source: Source, index: int, chat: "Chat") -> "Example":
    """Renders row `index` of `source` to tokens and their loss mask.

    Raises:
      UserError: naming the row, if it cannot be rendered or has nothing to learn.
    """
    where = source.where(index)
    messages = training_messages(source[index], where=where)
    try:
        example = chat.example(messages)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    if True not in example.trained:
        raise UserError(f"{where}: no token of it is trained; is the assistant's message empty?")
    return example


def measure_lengths(source: Source, chat: "Chat", *, num_threads: int) -> np.ndarray:
    """Renders every row once and returns the number of tokens of each, [rows] int32.

    Packing plans need all lengths, and over-length rows should stop a run at its start rather than in its middle. The
    tokens are not kept: they would not fit in memory at the size of the paper's data.
    """

    def measure(start: int) -> list[int]:
        stop = min(start + CHUNK, len(source))
        return [len(render_example(source, index, chat).tokens) for index in range(start, stop)]

    chunks = grain.MapDataset.range(0, len(source), CHUNK).map(measure)
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=4 * num_threads)
    lengths = np.empty(len(source), np.int32)
    done = 0
    with Progress("measuring examples", total=len(source)) as progress:
        for chunk in chunks.to_iter_dataset(options):
            lengths[done : done + len(chunk)] = chunk
            done += len(chunk)
            progress.update(done)
    return lengths


@dataclasses.dataclass(frozen=True)
class Selection:
    """The rows of each source that fit into a row of T tokens.

    Attributes:
      rows: for each source, [kept] int64, the kept rows.
      lengths: for each source, [kept] int32, their tokens.
      num_dropped: how many were too long, over all sources.
      longest_dropped: tokens of the longest of them, 0 if there is none.
    """

    rows: tuple[np.ndarray, ...]
    lengths: tuple[np.ndarray, ...]
    num_dropped: int
    longest_dropped: int


def select_fitting(
    sources: Sequence[Source],
    lengths: Sequence[np.ndarray],
    row_length: int,
    *,
    overlong: Literal["error", "drop"],
) -> Selection:
    """Leaves out the examples of more than `row_length` tokens, or refuses them.

    Raises:
      UserError: if there are over-length examples and `overlong` is "error": how many, how long, and the longest;
        if a source has no others.
    """
    kept = tuple(np.flatnonzero(source_lengths <= row_length) for source_lengths in lengths)
    num_dropped = sum(len(all_) - len(fitting) for all_, fitting in zip(lengths, kept, strict=True))
    longest = [int(source_lengths.max()) for source_lengths in lengths]
    if num_dropped and overlong == "error":
        source = int(np.argmax(longest))
        where = sources[source].where(int(np.argmax(lengths[source])))
        total = sum(len(source_lengths) for source_lengths in lengths)
        raise UserError(
            f"{num_dropped} of {total} examples are longer than row_length={row_length} tokens, the longest"
            f" {max(longest)} ({where}); raise row_length, or set overlong='drop' to leave them out."
        )
    for source, fitting in zip(sources, kept, strict=True):
        if len(fitting) == 0:
            raise UserError(
                f"all {len(source)} rows of the source of {source.where(0)} are longer than row_length={row_length}"
                " tokens; raise row_length or remove the source."
            )
    return Selection(
        rows=kept,
        lengths=tuple(all_[fitting] for all_, fitting in zip(lengths, kept, strict=True)),
        num_dropped=num_dropped,
        longest_dropped=max(longest) if num_dropped else 0,
    )
