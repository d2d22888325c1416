"""A report as one HTML file that opens anywhere: no scripts, no fonts, no pictures from elsewhere.

A report is a title and a list of sections; the body of a section is HTML put together by the functions here.
Whatever comes from outside (prompts, model text, names) is escaped by them, and the page's content policy forbids
scripts and foreign resources besides.
"""

import base64
import dataclasses
import html
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from phi4r.data.records import atomic_path
from phi4r.evals.reporting.figures import interval_figure
from phi4r.evals.reporting.page import PAGE
from phi4r.evals.reporting.style import svg_bytes
from phi4r.evals.scores import Interval, Scores


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and the HTML under it."""

    title: str
    body: str


@dataclasses.dataclass(frozen=True)
class Cell:
    """A value in a table with something small under it."""

    text: str
    note: str = ""
    muted: bool = False  # for what is not ours

    def __str__(self) -> str:
        return f"{self.text} [{self.note}]" if self.note else self.text


@dataclasses.dataclass(frozen=True)
class Sample:
    """A response to show: who wrote it, to what, and how it was judged; an empty reference is not shown."""

    model: str
    prompt: str
    response: str
    reference: str
    correct: bool
    num_tokens: int


def write_report(
    path: str | pathlib.Path, title: str, sections: Sequence[Section], *, subtitle: str = "", contents: bool = False
) -> None:
    """Writes the page; a reader never sees a half-written one.

    Args:
      path: of the HTML file.
      title: heading of the page.
      sections: in order of appearance.
      subtitle: a line of plain text under the title.
      contents: whether to begin with links to the sections.

    Raises:
      UserError: if the file cannot be written.
    """
    body = "\n".join(
        f'<section id="section-{number}"><h2>{html.escape(section.title)}</h2>\n{section.body}\n</section>'
        for number, section in enumerate(sections, start=1)
    )
    page = PAGE.substitute(
        title=html.escape(title), subtitle=html.escape(subtitle), body=(_contents(sections) if contents else "") + body
    )
    # Model text may hold lone surrogates, which UTF-8 cannot carry.
    with atomic_path(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")


def paragraph(text: str) -> str:
    """Returns plain text as a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def notes_list(notes: Sequence[str]) -> str:
    """Returns plain texts as a list that stands out."""
    return '<ul class="notes">' + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>"


def details(summary: str, body: str) -> str:
    """Returns `body`, HTML, folded under a line of plain text."""
    return f"<details><summary>{html.escape(summary)}</summary>\n{body}\n</details>"


def heading(text: str) -> str:
    """Returns plain text as a heading inside a section."""
    return f"<h3>{html.escape(text)}</h3>"


def figure_grid(figures: Sequence[tuple[Figure | bytes, str]], *, wide: bool = False) -> str:
    """Returns figures with their captions, side by side where the window is wide enough.

    Args:
      figures: (figure, or a picture in SVG; plain text).
      wide: whether each has a line of its own.
    """
    cells = "\n".join(_figure_html(figure, caption) for figure, caption in figures)
    kind = "figures one" if wide else "figures"
    return f'<div class="{kind}">\n{cells}\n</div>'


def table(header: Sequence[Any], rows: Sequence[Sequence[Any]], *, caption: str = "") -> str:
    """Returns a table of plain values and `Cell`s; all columns but the first are aligned as numbers."""
    head = "".join(f"<th>{_cell_html(cell)}</th>" for cell in header)
    lines = "\n".join("<tr>" + "".join(f"<td>{_cell_html(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    # Not <caption>: that is as wide as the table, which may be wider than the page.
    note = f'\n<p class="caption">{html.escape(caption)}</p>' if caption else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>{note}'


def model_entry(greedy: Scores, sampled: Scores) -> dict[str, Any]:
    """Returns the numbers of one model for report.json, `results_table` and `results_figure`; shares are fractions.

    Args:
      greedy: of one greedy run.
      sampled: of several runs at temperature 0.8, on the same items.
    """
    return {
        "greedy": greedy.accuracy,
        "greedy_interval": [greedy.interval.low, greedy.interval.high],
        "t08": sampled.accuracy,
        "sd": sampled.sd,
        "interval": [sampled.interval.low, sampled.interval.high],
        "n": sampled.num_items,
        "num_runs": sampled.num_runs,
        "truncated": sampled.truncated,
        "mean_tokens": sampled.mean_tokens,
    }


def results_table(models: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the table of models of a report.

    Args:
      models: name -> what `model_entry` returned.
    """
    header = ["model", "greedy", "T = 0.8", "sd over runs", "95% interval", "items", "runs", "truncated", "mean tokens"]
    rows = []
    for name, entry in models.items():
        low, high = entry["interval"]
        rows.append(
            [
                name,
                f"{100 * entry['greedy']:.1f}",
                f"{100 * entry['t08']:.1f}",
                "" if entry["sd"] is None else f"{100 * entry['sd']:.1f}",
                f"{100 * low:.1f} to {100 * high:.1f}",
                entry["n"],
                entry["num_runs"],
                f"{100 * entry['truncated']:.1f}%",
                f"{entry['mean_tokens']:.0f}",
            ]
        )
    note = "Accuracy in percent. The interval is that of T = 0.8, over items, runs of an item kept together."
    return table(header, rows, caption=note)


def results_figure(models: Mapping[str, Mapping[str, Any]], *, title: str) -> Figure:
    """Draws the accuracies of `model_entry` with their intervals."""
    return interval_figure(
        {
            name: {
                "greedy": (entry["greedy"], Interval(*entry["greedy_interval"])),
                "T = 0.8": (entry["t08"], Interval(*entry["interval"])),
            }
            for name, entry in models.items()
        },
        title=title,
    )


def samples_table(samples: Sequence[Sample]) -> str:
    """Returns responses with their thought, solution and verdict, side by side with the prompt."""
    return '<div class="samples">\n' + "\n".join(map(_sample_html, samples)) + "\n</div>"


def _cell_html(cell: Any) -> str:
    if not isinstance(cell, Cell):
        return html.escape(str(cell))
    note = f"<small>{html.escape(cell.note)}</small>" if cell.note else ""
    inner = html.escape(cell.text) + note
    return f'<span class="muted">{inner}</span>' if cell.muted else inner


def _sample_html(sample: Sample) -> str:
    verdict = "right" if sample.correct else "wrong"
    reference = f", reference {html.escape(sample.reference)}" if sample.reference else ""
    return (
        f'<article class="{verdict}"><header><b>{html.escape(sample.model)}</b>'
        f'<span class="verdict">{verdict}</span>'
        f"<span>{sample.num_tokens} tokens{reference}</span></header>\n"
        f'<pre class="prompt">{html.escape(sample.prompt)}</pre>\n'
        f"<pre>{_response_html(sample.response)}</pre></article>"
    )


def _response_html(response: str) -> str:
    """Returns the response with its thought, up to the last `</think>`, set apart from the solution."""
    thought, tag, solution = response.rpartition("</think>")
    if not tag:
        return f'<span class="thought">{html.escape(response)}</span>'
    return f'<span class="thought">{html.escape(thought + tag)}</span>{html.escape(solution)}'


def _figure_html(figure: Figure | bytes, caption: str) -> str:
    """Returns the figure as an SVG image inside the page; an image of its own keeps ids of figures apart."""
    svg = figure if isinstance(figure, bytes) else svg_bytes(figure)
    encoded = base64.b64encode(svg).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{encoded}"><figcaption>{text}</figcaption></figure>'
    )


def _contents(sections: Sequence[Section]) -> str:
    links = (
        f'<a href="#section-{number}">{html.escape(section.title)}</a>'
        for number, section in enumerate(sections, start=1)
    )
    return f"<nav>{' '.join(links)}</nav>\n"
