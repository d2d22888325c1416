"""From overlaps of texts to outcomes of items: the worst of an item's texts decides."""

from collections.abc import Sequence

from phi4r.curation.item import Item
from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.overlaps import CLEAN, Overlap, Thresholds, find_overlaps
from phi4r.curation.stage import Outcome, dropped, kept

TEXT_FIELDS = ("prompt", "answer", "thought", "solution")
_SEVERITY = {"clean": 0, "partial": 1, "contaminated": 2}


def overlap_outcomes(
    items: Sequence[Item],
    index: NgramIndex,
    *,
    stage: str,
    fields: Sequence[str],
    thresholds: Thresholds,
    drop_partial: bool,
    reason: str,
) -> list[Outcome]:
    """Judges items; each field is a text of its own, so that no n-gram goes from one into the next.

    Args:
      items: to judge.
      index: of what they must not contain.
      stage: under whose name the verdict is noted: `verdict` and `ratio`, and of an item that is not clean `rule`,
        `benchmark`, `item` and `part` of the protected text, `field`, and `start` (a number of words) and `span` there.
      fields: of an item that are looked at.
      thresholds: of the ratio.
      drop_partial: whether partial items are dropped.
      reason: of a dropped item, before the rule that it broke.
    """
    places = [(number, field) for number, item in enumerate(items) for field in fields if getattr(item, field)]
    overlaps = find_overlaps(index, [getattr(items[number], field) for number, field in places], thresholds)
    worst: list[tuple[Overlap, str]] = [(CLEAN, "")] * len(items)
    for (number, field), overlap in zip(places, overlaps, strict=True):
        if overlap is not CLEAN and _severity(overlap) > _severity(worst[number][0]):
            worst[number] = (overlap, field)
    outcomes = []
    for item, (overlap, field) in zip(items, worst, strict=True):
        item = item.noted(stage, **_note(overlap, field))
        if overlap.verdict == "contaminated":
            outcomes.append(dropped(item, f"{reason}: {overlap.rule}"))
        elif overlap.verdict == "partial" and drop_partial:
            outcomes.append(dropped(item, f"partly {reason}: {overlap.rule}"))
        else:
            outcomes.append(kept(item))
    return outcomes


def _severity(overlap: Overlap) -> tuple[int, bool, float]:
    """Returns what sorts overlaps: verdict, then whether a long n-gram condemns, then ratio."""
    return _SEVERITY[overlap.verdict], not overlap.rule.endswith("ratio"), overlap.ratio


def _note(overlap: Overlap, field: str) -> dict[str, str | float | int]:
    note: dict[str, str | float | int] = {"verdict": overlap.verdict, "ratio": round(overlap.ratio, 4)}
    if overlap.verdict != "clean":
        where = {"benchmark": overlap.benchmark, "item": overlap.item, "part": overlap.part, "field": field}
        note |= {"rule": overlap.rule, **where, "start": overlap.start, "span": overlap.span}
    return note
