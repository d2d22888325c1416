"""Plots the length-aware accuracy reward against the response length, as Figure 6 of the report."""

import argparse
import pathlib

import jax.numpy as jnp
import numpy as np

from phi4r.data.records import atomic_path
from phi4r.rl.rewards import RewardSettings, length_scaled_accuracy

CORRECT_COLOUR = "#1b7f5c"
INCORRECT_COLOUR = "#b8432f"
NUM_POINTS = 2000
PAPER = RewardSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `phi4r plot-reward`."""
    parser.add_argument("out", metavar="OUT.png", type=pathlib.Path, help="where to write the picture")
    parser.add_argument("--l_max", type=int, default=PAPER.max_length, help="longest response (default %(default)s)")
    parser.add_argument(
        "--l_pos_control",
        type=int,
        help=f"where right answers begin to pay for length (default: the paper's {PAPER.positive_control_length} "
        f"of {PAPER.max_length})",
    )
    parser.add_argument(
        "--l_neg_control",
        type=int,
        help=f"where wrong answers are long enough (default: the paper's {PAPER.negative_control_length} "
        f"of {PAPER.max_length})",
    )


def run(args: argparse.Namespace) -> None:
    """Writes the plot.

    Raises:
      UserError: for thresholds out of order or a folder that cannot be written.
    """
    settings = RewardSettings(
        max_length=args.l_max,
        positive_control_length=_or_share(args.l_pos_control, PAPER.positive_control_length, args.l_max),
        negative_control_length=_or_share(args.l_neg_control, PAPER.negative_control_length, args.l_max),
    )
    write_reward_plot(settings, args.out)
    print(f"wrote {args.out}")


def _or_share(value: int | None, paper: int, max_length: int) -> int:
    """Returns `value`, or where it is not given the share of `max_length` that `paper` has of the paper's L_max."""
    return round(paper * max_length / PAPER.max_length) if value is None else value


def write_reward_plot(settings: RewardSettings, path: pathlib.Path) -> None:
    """Writes the plot of `settings` to `path` as PNG, whole or not at all.

    Raises:
      UserError: when the file cannot be written.
    """
    figure = reward_figure(settings)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=200)


def reward_figure(settings: RewardSettings):
    """Returns a matplotlib figure with R_acc_scaled of right and of wrong answers, thresholds marked."""
    from matplotlib.figure import Figure  # the object interface draws with Agg and keeps no global state

    lengths = np.unique(np.linspace(0, settings.max_length, NUM_POINTS).astype(np.int32))
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for correct, colour in ((True, CORRECT_COLOUR), (False, INCORRECT_COLOUR)):
        rewards = length_scaled_accuracy(jnp.full(lengths.shape, correct), jnp.asarray(lengths), settings)
        axes.plot(lengths, rewards, color=colour, linewidth=2.4, solid_capstyle="round", zorder=3)
    _mark_thresholds(axes, settings)
    _label_curves(axes, settings)
    axes.axhline(0.0, color="0.75", linewidth=0.8, zorder=1)
    axes.set_xlim(0, settings.max_length * 1.02)
    axes.set_ylim(-1.15, 1.3)
    axes.set_yticks([-1.0, -0.5, 0.0, 0.5, 1.0])
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("response length (tokens)")
    axes.set_ylabel("length-aware accuracy reward")
    return figure


def _mark_thresholds(axes, settings: RewardSettings) -> None:
    """Draws a dotted line with name and value at each of the three control lengths."""
    marks = (
        (settings.negative_control_length, r"$L_{\mathrm{neg\_control}}$", "left"),
        (settings.positive_control_length, r"$L_{\mathrm{pos\_control}}$", "right"),
        (settings.max_length, r"$L_{\mathrm{max}}$", "right"),
    )
    for length, name, side in marks:
        axes.axvline(length, color="0.55", linewidth=1.0, linestyle=(0, (1, 2)), zorder=2)
        offset = settings.max_length * (0.008 if side == "left" else -0.008)
        axes.text(length + offset, 1.27, f"{name}\n{length:,}", ha=side, va="top", fontsize=9, color="0.3")


def _label_curves(axes, settings: RewardSettings) -> None:
    """Writes each curve's name on it, in place of a legend."""
    middle = 0.5 * settings.max_length
    axes.text(middle, settings.correct_short - 0.05, "correct", ha="center", va="top", color=CORRECT_COLOUR)
    axes.text(middle, settings.incorrect_long + 0.04, "incorrect", ha="center", va="bottom", color=INCORRECT_COLOUR)
