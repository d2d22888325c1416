"""Stages that are not for every item: the others pass untouched."""

from collections.abc import Callable, Sequence

from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome, kept


def decide_where(
    applies: Callable[[Item], bool], items: Sequence[Item], decide: Callable[[Sequence[Item]], list[Outcome]]
) -> list[Outcome]:
    """Returns an outcome for each item: that of `decide` where `applies` says so, and the item as it came elsewhere."""
    outcomes = iter(decide([item for item in items if applies(item)]))
    return [next(outcomes) if applies(item) else kept(item) for item in items]
