"""Items and stages of a few lines, whose outcomes can be told by hand."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

from phi4r.curation.item import Item
from phi4r.curation.shards import ShardWriter, kept_files
from phi4r.curation.stage import Outcome, Stage, dropped, failed, kept


def item(id: str, prompt: str = "what is asked", **fields) -> Item:
    return Item(id, prompt, **fields)


def shards_of(folder: pathlib.Path, items: Sequence[Item], *, size: int = 4) -> list[pathlib.Path]:
    """Writes items into shards."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(folder, size)
    for one in items:
        writer.write(one)
    writer.close()
    return kept_files(folder)


@dataclasses.dataclass
class Even:
    """Keeps items whose prompt is an even number, notes half of it, drops odd ones, and fails at other words."""

    name: str = "even"
    batch_size: int = 3
    batches: list[int] = dataclasses.field(default_factory=list)

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        self.batches.append(len(items))
        return [self._decide(one) for one in items]

    def _decide(self, one: Item) -> Outcome:
        if not one.prompt.isdigit():
            return failed(one, "no number")
        if int(one.prompt) % 2:
            return dropped(one, "odd")
        return kept(one.noted(self.name, half=int(one.prompt) // 2))


@dataclasses.dataclass
class SameLetters:
    """Looks at items with a letter in common: of each letter the first item stays; the others are told which."""

    name: str = "letters"

    def keys(self, one: Item) -> Iterator[str]:
        return iter(one.prompt)

    def digest(self, one: Item) -> Item:
        return Item(one.id, "", meta={self.name: {"letters": one.prompt}})

    def judge(self, items: Sequence[Item]) -> list[Outcome]:
        assert [one.id for one in items] == sorted(one.id for one in items)
        common = set.intersection(*(set(one.meta[self.name]["letters"]) for one in items))
        reason = f"has {min(common)}"
        return [kept(items[0]), *(dropped(one.noted(self.name, of=items[0].id), reason) for one in items[1:])]


Engine = Callable[[Callable[[], Stage], Sequence[pathlib.Path], pathlib.Path], Iterator[Outcome]]


def run(engine: Engine, make: Callable[[], Stage], items: Sequence[Item], tmp_path: pathlib.Path, *, size: int = 4):
    """Runs a stage over items in shards, in folders of its own."""
    number = next(n for n in itertools.count() if not (tmp_path / f"run{n}").exists())
    folder = tmp_path / f"run{number}"
    shards = shards_of(folder / "shards", items, size=size)
    (folder / "scratch").mkdir()
    return list(engine(make, shards, folder / "scratch"))
