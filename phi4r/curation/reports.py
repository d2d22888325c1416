"""Pages and pictures that some stages leave in their folders besides what all of them do."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from phi4r.curation.folder import DROPPED_FILE
from phi4r.curation.item import Item
from phi4r.curation.shards import kept_files, read_items
from phi4r.data.records import write_json


def report_teachability(folder: pathlib.Path, stage: Any, settings: Any) -> None:
    """Writes agreement.png and agreement.svg: how often the weak models were right, with the band that is kept."""
    from phi4r.curation.teaching.agreement_plot import read_agreements, write_agreement_plot

    if any("agreement" in item.meta.get("teachability", {}) for item in judged_items(folder)):
        agreements = read_agreements([*kept_files(folder), folder / DROPPED_FILE])
        for kind in ("png", "svg"):
            write_agreement_plot(agreements, folder / f"agreement.{kind}", low=settings.low, high=settings.high)


def report_rubric(folder: pathlib.Path, stage: Any, settings: Any) -> None:
    """Writes graders.json: how well the graders agree, over kept and dropped items."""
    from phi4r.curation.teaching.rubric import graders_report

    write_json(folder / "graders.json", graders_report(judged_items(folder)))


def report_overlaps(folder: pathlib.Path, stage: Any, settings: Any) -> None:
    """Writes contamination.html, .md and .jsonl: which items matched what, with the spans, and what was protected."""
    from phi4r.curation.overlap.contamination_report import write_contamination_report
    from phi4r.curation.overlap.held_out import NAME as HELD_OUT

    title = "Training items with held-out texts" if stage.name == HELD_OUT else "Contamination"
    write_contamination_report(folder, judged_items(folder), stage=stage.name, index=stage.index(), title=title)


def judged_items(folder: pathlib.Path) -> Iterator[Item]:
    """Yields the items that a stage has kept, and then those that it has dropped."""
    yield from read_items(kept_files(folder))
    with (folder / DROPPED_FILE).open("rb") as lines:
        for line in lines:
            yield Item.from_dict(json.loads(line)["item"])
