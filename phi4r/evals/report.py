"""A report as one HTML file that opens anywhere: no scripts, no fonts, no pictures from elsewhere.

A report is a title and a list of sections; the body of a section is HTML put together by the functions here.
Whatever comes from outside (prompts, model text, names) is escaped by them, and the page's content policy forbids
scripts and foreign resources besides.
"""

import base64
import dataclasses
import html
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from phi4r.data.records import atomic_path
from phi4r.evals.figures import interval_figure
from phi4r.evals.page import PAGE
from phi4r.evals.scores import Interval, Scores


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and the HTML under it."""

    title: str
    body: str


@dataclasses.dataclass(frozen=True)
class Sample:
    """A response to show: who wrote it, to what, and how it was judged."""

    model: str
    prompt: str
    response: str
    reference: str
    correct: bool
    num_tokens: int


def write_report(path: str | pathlib.Path, title: str, sections: Sequence[Section], *, subtitle: str = "") -> None:
    """Writes the page; a reader never sees a half-written one.

    Args:
      path: of the HTML file.
      title: heading of the page.
      sections: in order of appearance.
      subtitle: a line of plain text under the title.

    Raises:
      UserError: if the file cannot be written.
    """
    body = "\n".join(f"<section><h2>{html.escape(s.title)}</h2>\n{s.body}\n</section>" for s in sections)
    page = PAGE.substitute(title=html.escape(title), subtitle=html.escape(subtitle), body=body)
    # Model text may hold lone surrogates, which UTF-8 cannot carry.
    with atomic_path(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="replace")


def paragraph(text: str) -> str:
    """Returns plain text as a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def figure_grid(figures: Sequence[tuple[Figure, str]]) -> str:
    """Returns figures with their captions side by side where the window is wide enough."""
    cells = "\n".join(_figure_html(figure, caption) for figure, caption in figures)
    return f'<div class="figures">\n{cells}\n</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = "") -> str:
    """Returns a table of plain values; all columns but the first are aligned as numbers."""
    head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
    lines = "\n".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    note = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{note}<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>'


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


def _sample_html(sample: Sample) -> str:
    verdict = "right" if sample.correct else "wrong"
    return (
        f'<article class="{verdict}"><header><b>{html.escape(sample.model)}</b>'
        f'<span class="verdict">{verdict}</span>'
        f"<span>{sample.num_tokens} tokens, reference {html.escape(sample.reference)}</span></header>\n"
        f'<pre class="prompt">{html.escape(sample.prompt)}</pre>\n'
        f"<pre>{_response_html(sample.response)}</pre></article>"
    )


def _response_html(response: str) -> str:
    """Returns the response with its thought, up to the last `</think>`, set apart from the solution."""
    thought, tag, solution = response.rpartition("</think>")
    if not tag:
        return f'<span class="thought">{html.escape(response)}</span>'
    return f'<span class="thought">{html.escape(thought + tag)}</span>{html.escape(solution)}'


def _figure_html(figure: Figure, caption: str) -> str:
    """Returns the figure as an SVG image inside the page; an image of its own keeps ids of figures apart."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "phi4r"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/svg+xml;base64,{encoded}"><figcaption>{text}</figcaption></figure>'
    )
