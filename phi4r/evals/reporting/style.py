"""The common look of all figures: colours, axes, ticks in percent, and how a figure becomes a picture."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's, less yellow, which is faint on white: told apart by the colour-blind, too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b3a8c", "#5b6675")
INK, MUTED, GRID = "#1f2733", "#5b6675", "#e6e9ef"
SIZE_INCHES = (5.2, 3.3)
_PNG_DPI = 200
_LABEL_LENGTH = 48
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": "#b8c0cc",
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@contextlib.contextmanager
def styled_axes(
    title: str, x_label: str, y_label: str, *, size: tuple[float, float] = SIZE_INCHES, rows: bool = False
) -> Iterator[tuple[Figure, Axes]]:
    """Opens a figure with one pair of axes in the house style.

    Args:
      title: above the axes; this and the labels are taken word by word (`plain`).
      x_label: under the x axis.
      y_label: beside the y axis.
      size: width and height in inches.
      rows: whether the y axis has names in place of numbers: they are dark, grid lines stand upright, and the title
        begins above the names.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel=plain(x_label), ylabel=plain(y_label))
        if rows:
            figure.suptitle(plain(title), x=0.01, ha="left", fontsize=11, fontweight="bold")
            axes.grid(False, axis="y")
            axes.grid(True, axis="x")
            axes.tick_params(axis="y", labelcolor=INK)
        else:
            axes.set_title(plain(title))
        yield figure, axes


def scale_y(axes: Axes, percent: bool) -> None:
    """Puts readable ticks on y; shares never leave 0..100%."""
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.margins(y=0.08)
    if percent:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -0.02), min(max(high, 0.02), 1.02))
        axes.yaxis.set_major_formatter(percent_label)


def scale_x_percent(axes: Axes) -> None:
    """The same for x."""
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -0.02), min(max(high, 0.02), 1.02))
    axes.xaxis.set_major_formatter(percent_label)


def percent_label(share: float, _: int) -> str:
    """Labels a tick: 0.5 is "50%", 0.015 "1.5%"."""
    return f"{round(100 * share, 6) + 0.0:g}%"  # 0.0 is added to drop the sign of -0


def plain(text: str) -> str:
    """Returns `text` as a label that matplotlib takes word by word, a long one without its middle."""
    if len(text) > _LABEL_LENGTH:
        text = f"{text[: _LABEL_LENGTH // 2]}…{text[-_LABEL_LENGTH // 2 :]}"
    text = text.encode("utf-8", "replace").decode().replace("$", r"\$")  # no mathematics
    return f" {text}" if text.startswith("_") else text  # a legend leaves out what begins with an underscore


def colours(num: int) -> list[str]:
    """Returns a colour for each of `num` series; after the last the first comes again."""
    return [COLOURS[i % len(COLOURS)] for i in range(num)]


def svg_bytes(figure: Figure) -> bytes:
    """Returns a figure as SVG, the same bytes every time."""
    with matplotlib.rc_context({"svg.hashsalt": "phi4r"}):
        return _saved(figure, format="svg", metadata={"Date": None})


def png_bytes(figure: Figure) -> bytes:
    """Returns a figure as PNG, sharp at twice the size that it has in the page."""
    return _saved(figure, format="png", dpi=_PNG_DPI)


def _saved(figure: Figure, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, facecolor="white", **options)
    figure.set_layout_engine("none")  # what has been laid out once fits at any resolution, and layout takes long
    return buffer.getvalue()
