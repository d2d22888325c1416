"""Figures of a sweep: the scores of domains by mixture, as bars (Figure 5 of the paper) and as a map of colours."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from phi4r.evals.reporting.share_figures import bars_figure
from phi4r.evals.reporting.style import SIZE_INCHES, plain, styled_axes

PREDICTED = "predicted"
_MOST_BARS = 8  # combinations that bars can show side by side
_DARK = 0.6  # of the range of scores, from where on ink is white


def mixture_figure(
    scores: Mapping[str, Mapping[str, tuple[float, float, float]]], *, title: str = "Scores of domains by mixture"
) -> Figure | None:
    """Draws a group of bars for each domain, a bar for each combination; None for too many combinations.

    Args:
      scores: domain -> combination -> (score, low, high).
      title: above the axes.
    """
    combinations = {name for row in scores.values() for name in row}
    return bars_figure(scores, title=title) if len(combinations) <= _MOST_BARS else None


def heat_figure(rows: Mapping[str, Sequence[float | None]], columns: Sequence[str], *, title: str) -> Figure:
    """Draws a table of shares as colours, with the numbers written into them; None stays white.

    Args:
      rows: name -> a share for each column.
      columns: their names.
      title: above the axes.
    """
    values = np.array([[np.nan if value is None else value for value in row] for row in rows.values()], float)
    size = (max(SIZE_INCHES[0], 2.6 + 0.9 * len(columns)), 1.1 + 0.34 * len(rows))
    with styled_axes(title, "", "", size=size, rows=True) as (figure, axes):
        axes.grid(False)
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        axes.imshow(values, cmap="Blues", aspect="auto", vmin=low, vmax=max(high, low + 1e-9))
        axes.set_xticks(range(len(columns)), [plain(name) for name in columns])
        axes.set_yticks(range(len(rows)), [plain(name) for name in rows])
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                dark = value - low > _DARK * (high - low) > 0
                text = f"{100 * value:.1f}"
                axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=9)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure
