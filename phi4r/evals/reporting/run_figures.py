"""Figures of repeated runs: their distribution (Figure 9), and best, average and majority of k (Figures 12 and 17).

Rows from top to bottom are models or benchmarks; published figures are hollow markers.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from phi4r.evals.distributions import accuracy_histogram
from phi4r.evals.reporting.derived import OfK
from phi4r.evals.reporting.published import MODELS
from phi4r.evals.reporting.style import GRID, INK, MUTED, SIZE_INCHES, colours, plain, scale_x_percent, styled_axes
from phi4r.evals.scores import Interval

_PUBLISHED_MARKERS = dict(zip(MODELS, ("o", "s", "^", "v", "D", "P"), strict=True))
_FEWEST_BINS = 8  # over the range of the runs of the model whose runs differ most
_MOST_BINS = 100  # over the range of all models
_BAR_HEIGHT = 0.62  # of a row
_BLOCK_GAP = 0.6  # rows between two benchmarks
_ROW_INCHES = 0.24
_MAJORITY = {"marker": "D", "markersize": 4.8, "markeredgecolor": INK, "markeredgewidth": 1.0}


@dataclasses.dataclass(frozen=True)
class Range:
    """What a model's samples can give; shares.

    Attributes:
      average: accuracy of one sample.
      interval: of the accuracy.
      of_k: best, worst and majority of k samples; None where there are fewer.
    """

    average: float
    interval: Interval
    of_k: OfK | None


def runs_figure(
    runs: Mapping[str, Sequence[float]],
    *,
    num_items: int,
    published: Mapping[str, tuple[float, float | None]],
    title: str,
) -> Figure:
    """Draws histograms of run accuracies, one row a model, with mean and standard deviation under each (Figure 9).

    Args:
      runs: model -> accuracy of every run.
      num_items: of the benchmark; accuracies are multiples of 1 / num_items.
      published: one of `published.MODELS` -> (mean, standard deviation over runs or None).
      title: above the axes.
    """
    num_rows = len(runs) + 0.6 * len(published) + 0.2
    names, places, top = [], [], num_rows
    size = (SIZE_INCHES[0], 1.3 + 0.55 * num_rows)
    with styled_axes(title, "accuracy of a run", "", size=size, rows=True) as (figure, axes):
        edges = _common_edges(list(runs.values()), num_items)
        counts = {name: np.histogram(values, edges)[0] for name, values in runs.items()}
        tallest = max(int(count.max()) for count in counts.values())
        for (name, values), colour in zip(runs.items(), colours(len(runs)), strict=True):
            top -= 1.0
            heights = _BAR_HEIGHT * counts[name] / tallest
            axes.bar(edges[:-1], heights, np.diff(edges), top, align="edge", color=colour, alpha=0.45, linewidth=0)
            _mean_and_sd(axes, np.mean(values), np.std(values, ddof=1), top - 0.12, colour, marker="o", filled=True)
            names.append(name)
            places.append(top + 0.12)
        top -= 0.2
        for name, (mean, sd) in published.items():
            top -= 0.6
            _mean_and_sd(axes, mean, sd, top + 0.1, MUTED, marker=_PUBLISHED_MARKERS[name], filled=False)
            names.append(name)
            places.append(top + 0.1)
        axes.set_yticks(places, [plain(name) for name in names])
        axes.spines["left"].set_visible(False)
        for label in axes.get_yticklabels()[len(runs) :]:
            label.set_color(MUTED)
        axes.set_ylim(-0.3, num_rows)
        scale_x_percent(axes)
    return figure


def ranges_figure(
    ranges: Mapping[str, Mapping[str, Range]], *, published: Mapping[str, Mapping[str, float]], k: int, title: str
) -> Figure:
    """Draws average, majority, best and worst of k, a block of rows for each benchmark (Figures 12 and 17).

    Args:
      ranges: benchmark -> model -> range.
      published: benchmark -> one of `published.MODELS` -> pass@1.
      k: samples of an item.
      title: above the axes.
    """
    models = list(dict.fromkeys(model for row in ranges.values() for model in row))
    others = list(dict.fromkeys(model for row in published.values() for model in row))
    colour_of = dict(zip(models, colours(len(models)), strict=True))
    names, places, y = [], [], 0.0
    num_rows = sum(len(row) + bool(published.get(name)) + _BLOCK_GAP for name, row in ranges.items())
    size = (1.5 * SIZE_INCHES[0], 1.3 + _ROW_INCHES * num_rows + 0.2 * ((len(models) + len(others)) // 3))
    x_label = f"accuracy: average, and worst to best of {k}" if k > 1 else "accuracy"
    with styled_axes(title, x_label, "", size=size, rows=True) as (figure, axes):
        for benchmark, row in ranges.items():
            first = y
            for model, of_model in row.items():
                _draw_range(axes, of_model, y, colour_of[model])
                y -= 1.0
            for model, share in published.get(benchmark, {}).items():
                axes.plot(share, y, _PUBLISHED_MARKERS[model], **_hollow(MUTED))
            y -= 1.0 * bool(published.get(benchmark))
            names.append(benchmark)
            places.append((first + y + 1.0) / 2)
            y -= _BLOCK_GAP
            axes.axhline(y + 0.5 + _BLOCK_GAP / 2, color=GRID, linewidth=0.8)
        axes.set_yticks(places, [plain(name) for name in names])
        axes.spines["left"].set_visible(False)
        axes.set_ylim(y + 0.5 + _BLOCK_GAP / 2, 0.5 + _BLOCK_GAP / 2)
        scale_x_percent(axes)
        handles = [Line2D([], [], color=colour, marker="o", label=plain(name)) for name, colour in colour_of.items()]
        if k > 1:
            handles.append(Line2D([], [], linestyle="", label=f"majority of {k}", **_MAJORITY, color="white"))
        handles += [
            Line2D([], [], linestyle="", marker=_PUBLISHED_MARKERS[name], label=f"{name}, published", **_hollow(MUTED))
            for name in others
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=9)
    return figure


def _common_edges(runs: Sequence[Sequence[float]], num_items: int) -> np.ndarray:
    """Returns edges of bins for the runs of all models: 2 sqrt(R) of them where those of one model spread widest."""
    every = np.concatenate(runs)
    num_bins = max(int(2 * max(map(len, runs)) ** 0.5), _FEWEST_BINS)
    widest = max(map(np.ptp, runs)) or 1 / num_items
    num_bins = min(int(np.ceil(num_bins * max(np.ptp(every) / widest, 1.0))), _MOST_BINS)
    return accuracy_histogram(every, num_items=num_items, max_bins=num_bins).edges


def _draw_range(axes: Axes, of_model: Range, y: float, colour: str) -> None:
    """Draws one model's bar from worst to best, its average with the interval, and its majority."""
    low, high = of_model.interval.low, of_model.interval.high
    if of_model.of_k is not None:
        ends = [of_model.of_k.worst, of_model.of_k.best]
        axes.plot(ends, [y, y], color=colour, alpha=0.28, linewidth=7, solid_capstyle="butt", zorder=2)
    axes.plot([low, high], [y, y], color=colour, linewidth=1.6, zorder=3)
    axes.plot(of_model.average, y, "o", color=colour, markersize=6.5, markeredgecolor="white", zorder=5)
    if of_model.of_k is not None and of_model.of_k.majority is not None:
        axes.plot(of_model.of_k.majority, y, color=colour, zorder=4, **_MAJORITY)


def _mean_and_sd(
    axes: Axes, mean: float, sd: float | None, y: float, colour: str, *, marker: str, filled: bool
) -> None:
    """Draws a mean with its standard deviation, and writes both beside them."""
    look = {"color": colour, "markeredgecolor": "white", "markersize": 7} if filled else _hollow(colour)
    if sd is not None:
        axes.plot([mean - sd, mean + sd], [y, y], color=colour, linewidth=1.4, zorder=3)
    axes.plot(mean, y, marker, **look, zorder=4)
    text = f"{100 * mean:.1f}" + (f" ± {100 * sd:.1f}" if sd is not None else "")
    axes.annotate(
        text, (1.0, y), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center", fontsize=9
    )


def _hollow(colour: str) -> dict[str, object]:
    """Returns the look of a published figure."""
    return {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.3, "markersize": 6}
