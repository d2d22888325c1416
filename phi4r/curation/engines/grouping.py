"""What both engines know about a GroupStage: how its judgements on the groups of an item become one outcome.

A stage that has the attribute `smallest_group` is not asked about groups with fewer items, on any engine.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from phi4r.curation.item import Item
from phi4r.curation.stage import GroupStage, ItemStage, Outcome

Place = TypeVar("Place")


class Verdict(NamedTuple):
    """What the judgement on one group says of one item.

    Attributes:
      reason: why it is dropped; empty if it is not.
      failed: whether the stage could not decide.
      key: of the group.
      notes: what the stage noted.
    """

    reason: str
    failed: bool
    key: str
    notes: Mapping[str, Any]

    @property
    def rank(self) -> tuple:
        """Among the verdicts on an item the smallest counts: a reason before none, by the alphabet, then the key."""
        return not self.reason, self.reason, not self.notes, self.key


class Member(NamedTuple, Generic[Place]):
    """An item in a group.

    Attributes:
      place: where the item stands, of any type that can be compared.
      digest: what `judge` needs of it.
    """

    place: Place
    digest: Item


def keys_of(stage: GroupStage, item: Item) -> list[str]:
    """Returns the keys of an item, each once."""
    return list(dict.fromkeys(stage.keys(item)))


def is_large_enough(stage: GroupStage, num_items: int) -> bool:
    """Whether the stage is asked about a group of so many items."""
    return num_items >= getattr(stage, "smallest_group", 1)


def judge_group(stage: GroupStage, key: str, members: Iterable[Member[Place]]) -> Iterator[tuple[Place, Verdict]]:
    """Yields a verdict for every member about which the stage has something to say.

    Args:
      stage: judges.
      key: that the members share.
      members: in any order.
    """
    members = sorted(members, key=lambda member: (member.digest.id, member.place))
    outcomes = stage.judge([member.digest for member in members])
    check_outcomes(stage, [member.digest for member in members], outcomes)
    for member, outcome in zip(members, outcomes, strict=True):
        before = member.digest.meta.get(stage.name, {})
        after = outcome.item.meta.get(stage.name, {})
        notes = {name: value for name, value in after.items() if name not in before or before[name] != value}
        if notes or not outcome.kept:
            yield member.place, Verdict(outcome.reason, outcome.failed, key, notes)


def settle(stage: GroupStage, item: Item, verdict: Verdict | None) -> Outcome:
    """Returns the outcome of an item by the verdict that counts, or of one about which nothing was said."""
    if verdict is None:
        return Outcome(item)
    noted = item.noted(stage.name, **verdict.notes) if verdict.notes else item
    return Outcome(noted, verdict.reason, verdict.failed)


def ask_stage(stage: ItemStage, items: Sequence[Item]) -> list[Outcome]:
    """Returns the outcomes of a batch, and makes sure that they are its items'."""
    outcomes = stage(items)
    check_outcomes(stage, items, outcomes)
    return outcomes


def check_outcomes(stage: GroupStage | ItemStage, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
    """Ends a run whose stage lost, added or renamed an item: that is a mistake in the stage."""
    if [outcome.item.id for outcome in outcomes] != [item.id for item in items]:
        raise AssertionError(f"the stage {stage.name} gave other items than it got")


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """Returns the row that `outcome_from_dict` reads."""
    return {"item": outcome.item.to_dict(), "reason": outcome.reason, "failed": outcome.failed}


def outcome_from_dict(row: Mapping[str, Any]) -> Outcome:
    """Reads what `outcome_to_dict` wrote."""
    return Outcome(Item(**row["item"]), row["reason"], row["failed"])


def digest_to_dict(digest: Item) -> dict[str, Any]:
    """Returns what is not empty of a digest; `Item(**row)` reads it."""
    filled = {name: value for name, value in vars(digest).items() if value}
    return {"id": "", "prompt": "", **filled}
