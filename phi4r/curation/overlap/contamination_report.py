"""The report on contamination: what was found of each benchmark, with the shared words marked.

It is made from what the stage noted on items (`phi4r.curation.overlap.overlap_outcomes`), kept and dropped ones alike,
and says the same three times: for a browser, for a paper, and for programs, which get all findings and not only
examples.
"""

import dataclasses
import html
import json
import os
import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from phi4r.curation.item import Item
from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.ngrams import words_of
from phi4r.data.records import atomic_path

JSONL_FILE = "contamination.jsonl"
MARKDOWN_FILE = "contamination.md"
HTML_FILE = "contamination.html"

_CONTEXT = 160  # characters before and after the span
_CHUNK = re.compile(r"\S+")
_FOUND_COLUMNS = ("Benchmark", "By long n-gram", "By ratio", "Partial", "Texts found")
_COVERED_COLUMNS = ("Texts", "Not protected")


@dataclasses.dataclass(frozen=True)
class Finding:
    """An item that is not clean, with the text around the shared words as it stands in the item."""

    id: str
    source: str
    verdict: str
    rule: str
    ratio: float
    benchmark: str
    item: str
    part: str
    field: str
    span: str
    before: str
    shared: str
    after: str


@dataclasses.dataclass
class _Counts:
    """Of one benchmark."""

    long: int = 0
    ratio: int = 0
    partial: int = 0
    items: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    examples: list[Finding] = dataclasses.field(default_factory=list)


def write_contamination_report(
    folder: str | os.PathLike,
    items: Iterable[Item],
    *,
    stage: str = "decontamination",
    index: NgramIndex | None = None,
    title: str = "Contamination",
    num_examples: int = 20,
) -> None:
    """Writes contamination.html, .md and .jsonl; items are read once and only examples are held in memory.

    Args:
      folder: for the files.
      items: all that the stage has looked at.
      stage: whose notes are read, as "decontamination".
      index: of the stage, to say of all benchmarks how many texts are protected, and of how many nothing can be found,
        because they are too short or all template; None to name only those that something was found of.
      title: of the pages.
      num_examples: shown of each benchmark, the first ones.

    Raises:
      UserError: if the folder cannot be written.
    """
    benchmarks: dict[str, _Counts] = defaultdict(_Counts)
    verdicts: Counter[str] = Counter()
    folder = pathlib.Path(folder)
    with atomic_path(folder / JSONL_FILE) as partial, partial.open("w", encoding="utf-8") as file:
        for item in items:
            note = item.meta.get(stage, {})
            verdicts[note.get("verdict", note.get("side", "not looked at"))] += 1
            if note.get("verdict", "clean") != "clean":
                finding = _finding(item, note)
                file.write(json.dumps(dataclasses.asdict(finding), ensure_ascii=True) + "\n")
                _count(benchmarks[finding.benchmark], finding, num_examples)
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "no items"
    table = _table(benchmarks, {} if index is None else index.coverage())
    counts = dict(sorted(benchmarks.items()))
    _write_markdown(folder / MARKDOWN_FILE, title, summary, table, counts)
    _write_html(folder / HTML_FILE, title, summary, table, counts)


def marked(text: str, start: int, num_words: int) -> tuple[str, str, str]:
    """Returns what stands before, in and after a span of a text, as written, in whole pieces between blanks.

    Args:
      text: whose words `phi4r.curation.overlap.ngrams.words_of` gives.
      start: number of the first word of the span.
      num_words: of it.
    """
    begin = end = len(text)
    seen = 0
    for chunk in _CHUNK.finditer(text):
        before, seen = seen, seen + len(words_of(chunk[0]))
        if before <= start < seen:
            begin = chunk.start()
        if seen >= start + num_words:
            end = chunk.end()
            break
    return text[:begin], text[begin:end], text[end:]


def _finding(item: Item, note: Mapping[str, Any]) -> Finding:
    text = getattr(item, note["field"])
    before, shared, after = marked(text, note["start"], len(note["span"].split()))
    before = f"…{before[-_CONTEXT:]}" if len(before) > _CONTEXT else before
    after = f"{after[:_CONTEXT]}…" if len(after) > _CONTEXT else after
    names = ("verdict", "rule", "ratio", "benchmark", "item", "part", "field", "span")
    noted = {name: note[name] for name in names}
    return Finding(id=item.id, source=item.source, before=before, shared=shared, after=after, **noted)


def _count(counts: _Counts, finding: Finding, num_examples: int) -> None:
    counts.items.add((finding.item, finding.part))
    if finding.verdict == "partial":
        counts.partial += 1
    elif finding.rule.endswith("ratio"):
        counts.ratio += 1
    else:
        counts.long += 1
    if len(counts.examples) < num_examples:
        counts.examples.append(finding)


class _Table(NamedTuple):
    header: tuple[str, ...]
    rows: list[list[Any]]


def _table(benchmarks: Mapping[str, _Counts], coverage: Mapping[str, tuple[int, int]]) -> _Table:
    rows = []
    for name in sorted({*benchmarks, *coverage}):
        counts = benchmarks.get(name, _Counts())
        found = [name, counts.long, counts.ratio, counts.partial, len(counts.items)]
        rows.append([*found, *coverage.get(name, (0, 0))] if coverage else found)
    return _Table((*_FOUND_COLUMNS, *_COVERED_COLUMNS) if coverage else _FOUND_COLUMNS, rows)


def _heading(finding: Finding) -> str:
    return (
        f"{finding.verdict}, {finding.rule}, ratio {finding.ratio:.2f}: {finding.field} of {finding.id}"
        f"{f' ({finding.source})' if finding.source else ''} has words of {finding.item}, {finding.part}"
    )


def _write_markdown(
    path: pathlib.Path, title: str, summary: str, table: _Table, benchmarks: Mapping[str, _Counts]
) -> None:
    from phi4r.evals.reporting.tables import Table  # imports matplotlib

    pieces = [f"# {title}\n\n{summary}.\n\n"]
    if table.rows:
        pieces.append(Table("contamination", *table).markdown())
    for name, counts in benchmarks.items():
        pieces.append(f"\n## {_plain(name)}\n\n")
        pieces += [
            f"- {_plain(_heading(one))}\n\n  > {_plain(one.before)}**{_plain(one.shared)}**{_plain(one.after)}\n\n"
            for one in counts.examples
        ]
    with atomic_path(path) as partial:
        partial.write_text("".join(pieces), encoding="utf-8", errors="replace")


def _plain(text: str) -> str:
    """Returns text that Markdown shows as it is, in one line."""
    return re.sub(r"([\\`*_\[\]<>#|$~&])", r"\\\1", re.sub(r"\s+", " ", text))


def _write_html(path: pathlib.Path, title: str, summary: str, table: _Table, benchmarks: Mapping[str, _Counts]) -> None:
    from phi4r.evals.reporting import markup

    sections = [markup.Section("Benchmarks", markup.table(*table))]
    for name, counts in benchmarks.items():
        body = "\n".join(
            f"<article><header><b>{html.escape(_heading(one))}</b></header>"
            f"<pre>{html.escape(one.before)}<mark>{html.escape(one.shared)}</mark>{html.escape(one.after)}</pre></article>"
            for one in counts.examples
        )
        sections.append(markup.Section(name, body))
    markup.write_report(path, title, sections, subtitle=summary, contents=True)
