"""Stages: what the steps of curation have in common, so that one process and Apache Beam run the same ones.

There are two kinds. An `ItemStage` decides about items one by one; it is handed batches because what it asks may be
cheaper so, but an outcome never depends on the other items of a batch. A `GroupStage` decides about items that share a
key (duplicates): it names the keys of an item, and looks at the items of each key together.

A stage is pure: the same items give the same outcomes, in any order, in any batches, on any engine. What costs money
(answers of a model) comes from a cache that is keyed by what was asked (`phi4r.curation.asking.asking`).
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from phi4r.curation.item import Item

KEPT = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a stage made of an item.

    Attributes:
      item: as it goes on, or as it was when it was dropped: with what the stage noted on it.
      reason: why it was dropped, in a few words that are the same for all items dropped for it ("too short",
        "near duplicate"), as they become the rows of a table; empty for an item that is kept.
      failed: whether the stage could not decide (a model that returned garbage, a server that refused): such items are
        dropped too, but quarantined in a file of their own, and counted apart.
    """

    item: Item
    reason: str = KEPT
    failed: bool = False

    @property
    def kept(self) -> bool:
        """Whether the item goes on."""
        return not self.reason


@runtime_checkable
class ItemStage(Protocol):
    """Decides about items one by one.

    Attributes:
      name: of its folder, its section in the config and its entry in `Item.meta`.
      batch_size: items that it wants at a time, at most.
    """

    name: str
    batch_size: int

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item, in their order."""
        ...


@runtime_checkable
class GroupStage(Protocol):
    """Decides about items that share a key.

    An item is dropped if the judgement on any of its groups says so; of several reasons the first in the alphabet is
    given, and of several notes that of the first key.

    Attributes:
      name: as of an ItemStage.
    """

    name: str

    def keys(self, item: Item) -> Iterable[str]:
        """Returns the keys under which an item meets others."""
        ...

    def digest(self, item: Item) -> Item:
        """Returns the item with nothing but what `judge` needs (id, and notes), to hold many in memory."""
        ...

    def judge(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each of the items that share a key, which come in the order of their ids."""
        ...


Stage = ItemStage | GroupStage


def kept(item: Item) -> Outcome:
    """Returns the outcome of an item that goes on."""
    return Outcome(item)


def dropped(item: Item, reason: str) -> Outcome:
    """Returns the outcome of an item that does not."""
    return Outcome(item, reason)


def failed(item: Item, reason: str) -> Outcome:
    """Returns the outcome of an item that could not be decided about."""
    return Outcome(item, reason, failed=True)
