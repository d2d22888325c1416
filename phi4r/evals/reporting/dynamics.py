"""The training figures of the paper from rows of metrics.jsonl: Figure 4 (SFT) and Figure 7 (GRPO).

A row is a dict with `step` and scalars; rows that lack a scalar, as evaluations every n steps do, are left out of its
curve. Each function returns (figure, caption) pairs for `phi4r.evals.reporting.markup.figure_grid`.
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from phi4r.errors import UserError
from phi4r.evals.reporting.figures import Points, curve_figure, scatter_figure

Row = Mapping[str, float | None]
MAX_POINTS = 400


def sft_figures(rows: Sequence[Row]) -> list[tuple[Figure, str]]:
    """Draws SFT as in Figure 4: loss, and accuracy and length on the development set.

    Args:
      rows: of SFT's metrics.jsonl, with `loss`, and `dev_accuracy` and `dev_length` (tokens) at the steps where the
        model was probed (`phi4r.evals.probe`), and the same of each task where there are several; a curve without
        points is left out.

    Raises:
      UserError: if no row has a loss.
    """
    _require(rows, "loss")
    figures = [
        (
            curve_figure({"loss": _curve(rows, "loss")}, title="SFT loss", y_label="nats a token", smooth=True),
            "Loss on the response tokens of each batch, and its running mean.",
        )
    ]
    for key, title, label, caption in (
        ("dev_accuracy", "Accuracy while learning to think", "", "Accuracy on the held-out tasks (Figure 4)."),
        ("dev_length", "Length of responses", "tokens", "Mean length of responses to the held-out tasks."),
    ):
        curves = {name: _curve(rows, task_key) for name, task_key in _probed(rows, key).items()}
        if curves:
            figures.append((curve_figure(curves, title=title, y_label=label, percent=key == "dev_accuracy"), caption))
    return figures


def grpo_figures(rows: Sequence[Row]) -> list[tuple[Figure, str]]:
    """Draws the dynamics of GRPO, the six panels of Figure 7, and held-out accuracy where it was measured.

    Args:
      rows: of GRPO's metrics.jsonl, with `accuracy`, `reward`, `length`, `length_correct`, `length_wrong`,
        `clipped_share` and `entropy`, and maybe `dev_accuracy`.

    Raises:
      UserError: if no row has an accuracy.
    """
    _require(rows, "accuracy")
    full = [row for row in rows if row.get("accuracy") is not None]
    accuracies, steps = [row["accuracy"] for row in full], [row["step"] for row in full]

    def curves(title: str, names: Mapping[str, str], y_label: str = "", percent: bool = False) -> Figure:
        series = {name: _curve(rows, key) for name, key in names.items()}
        drawn = {name: points for name, points in series.items() if points[0]}
        return curve_figure(drawn, title=title, y_label=y_label, percent=percent, smooth=True)

    def against_accuracy(title: str, key: str, label: str) -> Figure:
        values = [row.get(key) for row in full]
        return scatter_figure(
            accuracies, values, steps, title=title, x_label="accuracy of the batch", y_label=label, percent_x=True
        )

    accuracy = {"rollouts": "accuracy", **_probed(rows, "dev_accuracy")}
    lengths = {"right answers": "length_correct", "wrong answers": "length_wrong"}
    return [
        (curves("Accuracy", accuracy, percent=True), "Share of right answers at each step."),
        (against_accuracy("Reward against accuracy", "reward", "mean reward"), "Each point is one step's rollouts."),
        (against_accuracy("Length against accuracy", "length", "mean tokens"), "Each point is one step's rollouts."),
        (curves("Length of right and of wrong answers", lengths, "mean tokens"), "Apart, as the reward treats them."),
        (curves("Share clipped", {"clipped": "clipped_share"}, percent=True), "Responses cut off by the token limit."),
        (curves("Entropy", {"entropy": "entropy"}, "nats a token"), "Mean entropy of the policy's next token."),
    ]


def _probed(rows: Sequence[Row], key: str) -> dict[str, str]:
    """Returns the curves of a figure of the probe, name -> key: of each task where there are several, else of all."""
    keys = sorted({name for row in rows for name in row if name == key or name.startswith(f"{key}_")})
    tasks = {name.removeprefix(f"{key}_"): name for name in keys if name != key}
    return tasks or dict.fromkeys(["held out"] * (key in keys), key)


def _curve(rows: Sequence[Row], key: str) -> Points:
    """Returns the steps and values of the rows that have `key`; long ones are thinned to keep the page small."""
    kept = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
    stride = -(-len(kept) // MAX_POINTS)
    kept = kept[:: stride or 1]
    return [step for step, _ in kept], [value for _, value in kept]


def _require(rows: Sequence[Row], key: str) -> None:
    if all(row.get(key) is None for row in rows):
        raise UserError(f"no row of the metrics has {key!r}; give the metrics.jsonl of the right stage.")
