"""Figures of a report, drawn by matplotlib without a display: curves, points coloured by step, bars with intervals.

Every function takes plain numbers and returns a `matplotlib.figure.Figure`; `phi4r.evals.reporting.markup` embeds it
in a page as SVG. Points that are None or not finite leave a gap.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from phi4r.evals.reporting.style import INK, MUTED, colours, percent_label, scale_y, styled_axes
from phi4r.evals.scores import Interval

Points = tuple[Sequence[float], Sequence[float | None]]  # x and y of equal length
Estimate = tuple[float, Interval | None]  # a share and its interval


def curve_figure(
    series: Mapping[str, Points],
    *,
    title: str,
    x_label: str = "step",
    y_label: str = "",
    percent: bool = False,
    smooth: bool = False,
) -> Figure:
    """Draws lines over a common x axis.

    Args:
      series: name -> (x, y); a single one is drawn without a legend.
      title: above the axes.
      x_label: under the x axis.
      y_label: beside the y axis.
      percent: whether y are shares, shown in percent.
      smooth: whether to draw a running mean over a twelfth of each line, the raw points pale behind it. Lines of
        fewer than 24 points stay as they are.
    """
    with styled_axes(title, x_label, y_label) as (figure, axes):
        for (name, (x, y)), colour in zip(series.items(), colours(len(series)), strict=True):
            x, y = np.asarray(x, float), _floats(y)
            width = max(len(x) // 12, 1) if smooth else 1
            if width > 1:
                axes.plot(x, y, color=colour, alpha=0.28, linewidth=1.0)
            marker = "o" if len(x) <= 12 else None
            axes.plot(x, running_mean(y, width), color=colour, label=name, marker=marker, markersize=4)
        if len(series) > 1:
            axes.legend()
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        scale_y(axes, percent)
    return figure


def scatter_figure(
    x: Sequence[float | None],
    y: Sequence[float | None],
    steps: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    percent_x: bool = False,
) -> Figure:
    """Draws one quantity against another, a point for each step, coloured from the first step to the last."""
    with styled_axes(title, x_label, y_label) as (figure, axes):
        points = axes.scatter(_floats(x), _floats(y), c=np.asarray(steps, float), cmap="viridis_r", s=26, linewidths=0)
        bar = figure.colorbar(points, ax=axes, pad=0.02, aspect=28)
        bar.set_label("step", color=MUTED)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.grid(True, axis="both")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        if percent_x:
            axes.xaxis.set_major_formatter(percent_label)
    return figure


def interval_figure(groups: Mapping[str, Mapping[str, Estimate]], *, title: str, y_label: str = "accuracy") -> Figure:
    """Draws bars of shares with their intervals as whiskers.

    Args:
      groups: group (a model) -> series (a way of decoding) -> (share, interval or None). Series that a group lacks
        leave their place empty.
      title: above the axes.
      y_label: beside the y axis.
    """
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.8 / max(len(names), 1)
    with styled_axes(title, "", y_label) as (figure, axes):
        for offset, (name, colour) in enumerate(zip(names, colours(len(names)), strict=True)):
            places = [i for i, group in enumerate(groups.values()) if name in group]
            estimates = [group[name] for group in groups.values() if name in group]
            x = np.array(places) + (offset - (len(names) - 1) / 2) * width
            shares = np.array([share for share, _ in estimates])
            ends = np.array([(i.low, i.high) if i else (share, share) for share, i in estimates])
            whiskers = np.abs(ends.T - shares)
            style = dict(ecolor=INK, elinewidth=1.1, capsize=3)
            axes.bar(x, shares, width * 0.9, color=colour, label=name, yerr=whiskers, error_kw=style)
            for place, share, high in zip(x, shares, ends[:, 1], strict=True):
                axes.annotate(
                    f"{100 * share:.1f}",
                    (place, max(high, share)),
                    (0, 4),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                )
        axes.set_xticks(range(len(groups)), list(groups), color=INK)
        axes.set_ylim(0.0, 1.0)
        axes.yaxis.set_major_formatter(percent_label)
        if len(names) > 1:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, -0.24), ncols=len(names))
    return figure


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Returns the centred mean over `width` points, nan where the point itself is.

    The window shrinks at the ends, points that are not finite are left out of it, and an even one reaches one point
    further back than ahead.
    """
    finite = np.isfinite(values)
    back, ahead = width // 2, (width - 1) // 2
    means = np.full(len(values), np.nan)
    for i in np.flatnonzero(finite):
        window = slice(max(0, i - back), i + ahead + 1)
        means[i] = values[window][finite[window]].mean()
    return means


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], float)
