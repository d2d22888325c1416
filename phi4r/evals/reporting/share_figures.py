"""Figures of shares with intervals: over k or steps as a band, by group as points or bars, against tokens.

They are Figures 2 (curves over k), 4 (over checkpoints), 10 (by year), 11 (against tokens), 15 and 16 (by subject) of
the paper.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from phi4r.evals.reporting.style import COLOURS, INK, SIZE_INCHES, colours, percent_label, plain, scale_y, styled_axes

_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
_MANY_POINTS = 12  # of a line: from here on not every one has its mark, or its tick


@dataclasses.dataclass(frozen=True)
class Line:
    """Values over x with the ends of their intervals; arrays of one length."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True)
class TokenPoint:
    """Accuracy against length.

    Attributes:
      tokens: mean length of the responses.
      accuracy: share of right ones.
      low: of its interval.
      high: of its interval.
      levels: (mean tokens, accuracy, level) of the items of each level, the easiest first; empty for no levels.
    """

    tokens: float
    accuracy: float
    low: float
    high: float
    levels: Sequence[tuple[float, float, float]] = ()


def band_figure(
    lines: Mapping[str, Line],
    *,
    title: str,
    x_label: str,
    y_label: str = "",
    percent: bool = True,
    powers: bool = False,
) -> Figure:
    """Draws lines with their intervals as bands.

    Args:
      lines: name -> line.
      title: above the axes.
      x_label: under the x axis.
      y_label: beside the y axis.
      percent: whether the values are shares.
      powers: whether x is shown in powers of two.
    """
    with styled_axes(title, x_label, y_label) as (figure, axes):
        for (name, line), colour, marker in _looks(lines):
            axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.14, linewidth=0)
            some = _marked(line.x, powers)
            axes.plot(line.x, line.mean, color=colour, label=plain(name), marker=marker, markersize=4.5, markevery=some)
        if powers:
            _powers_of_two(axes, max(line.x.max() for line in lines.values()))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(_thousands)
        axes.yaxis.set_major_formatter(_thousands)
        scale_y(axes, percent)
        _legend(axes, len(lines))
    return figure


def points_figure(lines: Mapping[str, Line], *, title: str, x_label: str) -> Figure:
    """Draws shares by a number (year, level) as points joined by lines, with whiskers; models stand side by side."""
    values = np.unique(np.concatenate([line.x for line in lines.values()]))
    gap = float(np.diff(values).min()) if len(values) > 1 else 1.0
    size = (min(max(SIZE_INCHES[0], 0.24 * len(values) + 1.5), 2 * SIZE_INCHES[0]), SIZE_INCHES[1])
    with styled_axes(title, x_label, "accuracy", size=size) as (figure, axes):
        for place, ((name, line), colour, marker) in enumerate(_looks(lines)):
            x = line.x + gap * 0.5 * ((place + 0.5) / len(lines) - 0.5)
            whiskers = np.abs(np.stack([line.low, line.high]) - line.mean)
            axes.errorbar(x, line.mean, whiskers, color=colour, elinewidth=0.9, linewidth=0, alpha=0.6)
            axes.plot(x, line.mean, color=colour, marker=marker, markersize=4.5, linewidth=1.1, label=plain(name))
        whole = bool(np.all(values == np.rint(values)))
        if len(values) <= _MANY_POINTS and whole:
            axes.set_xticks(values)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(10, integer=whole, steps=[1, 2, 5, 10]))
        scale_y(axes, percent=True)
        axes.set_ylim(-0.03, 1.03)
        if len(values) > _MANY_POINTS and len(lines) > 1:  # there is no room among so many
            figure.legend(loc="outside lower center", ncols=min(len(lines), 4), fontsize=9)
        else:
            _legend(axes, len(lines))
    return figure


def bars_figure(groups: Mapping[str, Mapping[str, tuple[float, float, float]]], *, title: str) -> Figure:
    """Draws shares by a name (subject) as bars from left to right, one group of bars a name (Figures 15 and 16).

    Args:
      groups: name of the group -> model -> (share, low, high).
      title: above the axes.
    """
    models = list(dict.fromkeys(model for group in groups.values() for model in group))
    width = 0.8 / max(len(models), 1)
    height = 1.2 + len(groups) * max(0.3, 0.2 * len(models))
    with styled_axes(title, "accuracy", "", size=(SIZE_INCHES[0], height), rows=True) as (figure, axes):
        for offset, (model, colour) in enumerate(zip(models, colours(len(models)), strict=True)):
            places = np.array([i for i, group in enumerate(groups.values()) if model in group], float)
            shares, lows, highs = np.array([group[model] for group in groups.values() if model in group]).T
            whiskers = np.abs(np.stack([lows, highs]) - shares)
            style = {"ecolor": INK, "elinewidth": 0.9, "capsize": 2}
            places += (offset - (len(models) - 1) / 2) * width
            axes.barh(places, shares, width * 0.88, color=colour, label=plain(model), xerr=whiskers, error_kw=style)
        axes.set_yticks(range(len(groups)), [plain(name) for name in groups])
        axes.invert_yaxis()
        axes.set_xlim(0.0, 1.0)
        axes.xaxis.set_major_formatter(percent_label)
        if len(models) > 1:
            figure.legend(loc="outside lower center", ncols=min(len(models), 3), fontsize=9)
    return figure


def tokens_figure(points: Mapping[str, TokenPoint], *, title: str) -> Figure:
    """Draws accuracy against the mean length of responses (Figure 11): a large point a model, small ones its levels."""
    with styled_axes(title, "mean tokens of a response", "accuracy") as (figure, axes):
        for (name, point), colour, marker in _looks(points):
            whiskers = [[abs(point.accuracy - point.low)], [abs(point.high - point.accuracy)]]
            if point.levels:
                tokens, shares, levels = zip(*point.levels, strict=True)
                axes.plot(tokens, shares, color=colour, linewidth=1.0, alpha=0.55, marker=".", markersize=5)
                for end in {0, len(levels) - 1}:
                    place = (tokens[end], shares[end])
                    axes.annotate(
                        f"{levels[end]:g}", place, (4, 3), textcoords="offset points", fontsize=8, color=colour
                    )
            style = {"color": colour, "linestyle": "", "zorder": 4}
            axes.errorbar(point.tokens, point.accuracy, whiskers, elinewidth=1.2, capsize=3, **style)
            look = {"marker": marker, "markersize": 8, "markeredgecolor": "white", "label": plain(name)}
            axes.plot(point.tokens, point.accuracy, **style, **look)
        axes.grid(True, axis="both")
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(_thousands)
        scale_y(axes, percent=True)
        _legend(axes, len(points), shapes=True)
    return figure


def _looks(series: Mapping) -> list[tuple]:
    """Returns the items of a mapping, each with a colour and a marker."""
    markers = [_MARKERS[(i + i // len(COLOURS)) % len(_MARKERS)] for i in range(len(series))]
    return list(zip(series.items(), colours(len(series)), markers, strict=True))


def _legend(axes: Axes, num_series: int, *, shapes: bool = False) -> None:
    """Names the series, outside the axes where they are many; a single one needs no name but beside shapes."""
    if num_series > 4:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    elif num_series > 1 or shapes:
        axes.legend(fontsize=9)


def _marked(x: np.ndarray, powers: bool) -> list[int]:
    """Returns which points of a line have a mark: all of few; of many those at powers of two, or every so many."""
    if len(x) <= _MANY_POINTS:
        return list(range(len(x)))
    if powers:
        return [place for place, value in enumerate(x) if math.log2(value).is_integer()]
    return list(range(0, len(x), -(-len(x) // _MANY_POINTS)))


def _powers_of_two(axes: Axes, last: float) -> None:
    axes.set_xscale("log", base=2)
    powers = [2**i for i in range(int(math.log2(last)) + 1)]
    ticks = [*powers, int(last)] if last > 1.2 * powers[-1] else powers
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def _thousands(number: float, _: int) -> str:
    """Labels a tick: 12000 is "12,000"."""
    return f"{number:,.10g}"
