"""The engine for one process: shards are read, a batch at a time, in their order.

What grows with the set, for a GroupStage, is 8 bytes an item and the verdicts on dropped ones; keys and digests lie on
disk, and the keys of one bucket of many are in memory.
"""

import array
import contextlib
import itertools
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Iterator, Sequence

from phi4r.curation.engines.grouping import (
    Member,
    Verdict,
    ask_stage,
    digest_to_dict,
    is_large_enough,
    judge_group,
    keys_of,
    settle,
)
from phi4r.curation.item import Item
from phi4r.curation.shards import json_line, read_items
from phi4r.curation.stage import GroupStage, ItemStage, Outcome, Stage

_NUM_BUCKETS = 64  # files that are open at a time; not in the paper


def run_local(
    make: Callable[[], Stage], shards: Sequence[str | os.PathLike], scratch: str | os.PathLike
) -> Iterator[Outcome]:
    """Yields the outcome of every item, in the order of the items.

    Args:
      make: makes the stage.
      shards: files of items.
      scratch: an empty folder.

    Raises:
      UserError: as the stage.
    """
    stage = make()
    if isinstance(stage, GroupStage):
        return _run_groups(stage, shards, pathlib.Path(scratch))
    return run_items(stage, read_items(shards))


def run_items(stage: ItemStage, items: Iterator[Item]) -> Iterator[Outcome]:
    """Yields the outcome of every item of an ItemStage, in their order."""
    while batch := list(itertools.islice(items, stage.batch_size)):
        yield from ask_stage(stage, batch)


def _run_groups(stage: GroupStage, shards: Sequence[str | os.PathLike], scratch: pathlib.Path) -> Iterator[Outcome]:
    """Writes keys and digests to disk, judges the groups of one bucket of keys after the other, and reads again."""
    offsets = _scatter(stage, shards, scratch)
    verdicts: dict[int, Verdict] = {}
    with (scratch / "digests.jsonl").open("rb") as digests:

        def member(position: int) -> Member[int]:
            digests.seek(offsets[position])
            return Member(position, Item(**json.loads(digests.readline())))

        for bucket in sorted(scratch.glob("keys-*.jsonl")):
            for key, positions in _groups(bucket).items():
                if is_large_enough(stage, len(positions)):
                    for position, verdict in judge_group(stage, key, map(member, positions)):
                        verdicts[position] = min(verdicts.get(position, verdict), verdict, key=lambda v: v.rank)
            bucket.unlink()
    for position, item in enumerate(read_items(shards)):
        yield settle(stage, item, verdicts.get(position))


def _scatter(stage: GroupStage, shards: Sequence[str | os.PathLike], scratch: pathlib.Path) -> array.array:
    """Writes digests.jsonl and the buckets of keys; returns where each item's digest begins."""
    offsets = array.array("Q")
    with contextlib.ExitStack() as stack:
        digests = stack.enter_context((scratch / "digests.jsonl").open("wb"))
        paths = [scratch / f"keys-{number:02d}.jsonl" for number in range(_NUM_BUCKETS)]
        buckets = [stack.enter_context(path.open("wb")) for path in paths]
        for position, item in enumerate(read_items(shards)):
            offsets.append(digests.tell())
            digests.write(json_line(digest_to_dict(stage.digest(item))))
            for key in keys_of(stage, item):
                buckets[zlib.crc32(key.encode(errors="surrogatepass")) % _NUM_BUCKETS].write(json_line([key, position]))
    return offsets


def _groups(bucket: pathlib.Path) -> dict[str, list[int]]:
    """Returns the positions of the items of each key."""
    groups: dict[str, list[int]] = {}
    with bucket.open("rb") as lines:
        for line in lines:
            key, position = json.loads(line)
            groups.setdefault(key, []).append(position)
    return groups
