"""The figures of a report of evaluations, from what was read of them."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from phi4r.errors import UserError
from phi4r.evals.breakdown import GroupScores
from phi4r.evals.curves import Curve, best_of_k_curve, majority_of_k_curve
from phi4r.evals.reporting.collected import Evaluation, Model
from phi4r.evals.reporting.curve_tables import checkpoints_table, curve_table, runs_table
from phi4r.evals.reporting.derived import (
    SAMPLES,
    Groups,
    Value,
    can_vote,
    group_sizes,
    is_number,
    of_k,
)
from phi4r.evals.reporting.published import PUBLISHED
from phi4r.evals.reporting.result_tables import by_model, group_name, no_width_note, task_names
from phi4r.evals.reporting.run_figures import Range, ranges_figure, runs_figure
from phi4r.evals.reporting.share_figures import (
    Line,
    TokenPoint,
    band_figure,
    bars_figure,
    points_figure,
    tokens_figure,
)
from phi4r.evals.reporting.style import SIZE_INCHES
from phi4r.evals.reporting.tables import Table

_MIN_RUNS = 3  # for a distribution of runs, and for curves over k
_MAX_BARS = 24
_BY_NUMBER = 4  # values of a numeric key from which on they are points on an axis


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with the name of its files, its caption, and what it shows as a table where no other table has that."""

    name: str
    figure: Figure
    caption: str
    table: Table | None = None

    @property
    def title(self) -> str:
        """What is written above it."""
        figure = self.figure
        return figure.get_suptitle() or figure.axes[0].get_title(loc="left")

    @property
    def wide(self) -> bool:
        """Whether it wants the width of the page."""
        return self.figure.get_figwidth() > 1.2 * SIZE_INCHES[0]


def samples_drawn(models: Sequence[Model]) -> int:
    """Returns k of "best of k": 5, or the most runs of an evaluation where all have fewer."""
    runs = (e.table.correct.shape[1] for model in models for e in model.evaluations.values())
    return min(SAMPLES, max(runs, default=1))


def overview_picture(models: Sequence[Model], k: int) -> Picture:
    """Draws all benchmarks and models with published figures: Figures 12 and 17."""
    ranges: dict[str, dict[str, Range]] = {}
    published: dict[str, Mapping[str, float]] = {}
    for task in task_names(models):
        evaluations = by_model(models, task)
        title = next(iter(evaluations.values())).title
        title = title if title not in ranges else task
        ranges[title] = {
            label: Range(e.scores.accuracy, e.scores.interval, of_k(e, k) if k > 1 else None)
            for label, e in evaluations.items()
        }
        published[title] = {model: mean for model, (mean, _) in _published(evaluations).items()}
    caption = "Accuracy of one sample with its 95% interval (circle, line)"
    caption += f", of the vote of {k} (diamond), and from all of {k} right to one of {k} right (bar)" if k > 1 else ""
    caption += ". Hollow: published pass@1." if any(published.values()) else "."
    figure = ranges_figure(ranges, published=published, k=k, title="Accuracy on all benchmarks")
    return Picture("overview", figure, caption)


def task_pictures(task: str, evaluations: Mapping[str, Evaluation], groups: Groups) -> Iterator[Picture]:
    """Draws one task: runs, votes, pass@k, groups and tokens, each where there is enough to see.

    Args:
      task: begins the names of files.
      evaluations: of the task, by the label of the model.
      groups: what `all_groups` returned for them.
    """
    title = next(iter(evaluations.values())).title
    repeated = {label: e for label, e in evaluations.items() if e.scores.num_runs >= _MIN_RUNS}
    if repeated:
        yield _runs_picture(task, title, repeated)
        voting = {label: e for label, e in repeated.items() if can_vote(e)}
        if voting:
            curves = {label: majority_of_k_curve(e.table.classes, e.table.correct) for label, e in voting.items()}
            caption = "Accuracy of the majority vote of k samples, over all draws of k (Figure 2)."
            yield _curve_picture(task, "majority", f"{title}: majority of k", curves, caption)
        curves = {label: best_of_k_curve(e.table.correct) for label, e in repeated.items()}
        yield _curve_picture(task, "pass_at_k", f"{title}: pass@k", curves, "Chance that one of k samples is right.")
    for key, scores in groups.items():
        yield _group_picture(task, title, key, scores)
    yield _tokens_picture(task, title, evaluations, groups)


def checkpoint_pictures(models: Sequence[Model]) -> Iterator[Picture]:
    """Draws accuracy, length and truncation over the checkpoints of a run (Figure 4).

    Args:
      models: one a checkpoint, in the order of `checkpoint_steps`.
    """
    steps = checkpoint_steps(models)
    table = checkpoints_table(steps, models)
    quantities = {
        "accuracy": ("Accuracy over checkpoints", "", True, "Accuracy of every task, with its 95% interval."),
        "tokens": ("Length over checkpoints", "mean tokens", False, "Mean length of responses."),
        "truncated": ("Truncation over checkpoints", "", True, "Share of responses that ran into the token limit."),
    }
    for name, (title, y_label, percent, caption) in quantities.items():
        lines = {}
        for task in task_names(models):
            evaluations = by_model(models, task)
            x = [step for step, model in zip(steps, models, strict=True) if model.label in evaluations]
            title_of = next(iter(evaluations.values())).title
            line = _line(x, [_quantity(evaluation, name) for evaluation in evaluations.values()])
            lines[title_of if title_of not in lines else task] = line
        figure = band_figure(lines, title=title, x_label="step", y_label=y_label, percent=percent)
        yield Picture(f"checkpoints_{name}", figure, caption, table if name == "accuracy" else None)


def checkpoint_steps(models: Sequence[Model]) -> list[int]:
    """Returns the step of each checkpoint, the last number in its label.

    Raises:
      UserError: if a label has no number, or two have the same.
    """
    steps = []
    for model in models:
        numbers = re.findall(r"[0-9]+", model.label)
        if not numbers:
            raise UserError(f"--checkpoints: {model.label!r} has no step in its name; name it, as step-100=DIR.")
        steps.append(int(numbers[-1]))
    if len(set(steps)) < len(steps):
        raise UserError("--checkpoints: two folders are of the same step; name them, as step-100=DIR step-200=DIR.")
    return steps


def _runs_picture(task: str, title: str, evaluations: Mapping[str, Evaluation]) -> Picture:
    runs = {label: evaluation.scores.run_accuracies for label, evaluation in evaluations.items()}
    num_items = max(evaluation.scores.num_items for evaluation in evaluations.values())
    published = _published(evaluations)
    figure = runs_figure(runs, num_items=num_items, published=published, title=f"{title}: accuracy of runs")
    caption = "How many runs had which accuracy, as a histogram; below it the mean (dot) and the standard deviation "
    caption += "over runs to both sides of it (line, after ±), in percent (Figure 9)."
    caption += " Hollow: published." if published else ""
    return Picture(f"{task}_runs", figure, caption, runs_table(task, evaluations))


def _curve_picture(task: str, statistic: str, title: str, curves: Mapping[str, Curve], caption: str) -> Picture:
    lines = {
        label: Line(np.arange(1, len(curve.mean) + 1), curve.mean, curve.low, curve.high)
        for label, curve in curves.items()
    }
    figure = band_figure(lines, title=title, x_label="samples k", y_label="accuracy", powers=True)
    caption += " The bands are 95% intervals of the mean over items."
    return Picture(f"{task}_{statistic}", figure, caption, curve_table(task, statistic, curves))


def _group_picture(task: str, title: str, key: str, scores: Mapping[str, Mapping[Value, GroupScores]]) -> Picture:
    """Draws points over numbers (Figure 10) and bars over names (Figures 15 and 16)."""
    name, words = f"{task}_{key}", key.replace("_", " ")
    sizes = group_sizes(scores)
    if len(sizes) >= _BY_NUMBER and all(map(is_number, sizes)):
        lines = {
            label: _line(list(groups), [(g.accuracy, g.interval.low, g.interval.high) for g in groups.values()])
            for label, groups in scores.items()
            if groups
        }
        figure = points_figure(lines, title=f"{title}: accuracy by {words}", x_label=words)
        place = " (Figure 10)" if key == "year" else ""
        caption = f"Accuracy by {words}{place}, with 95% intervals"
        caption += "; models stand side by side." if len(lines) > 1 else "."
        return Picture(name, figure, caption + no_width_note(scores))
    largest = sorted(sizes, key=lambda value: -sizes[value])[:_MAX_BARS]
    bars = {
        f"{group_name(value)} ({size})": {
            label: (groups[value].accuracy, groups[value].interval.low, groups[value].interval.high)
            for label, groups in scores.items()
            if value in groups
        }
        for value, size in sizes.items()
        if value in largest
    }
    place = " (Figures 15 and 16)" if key in ("subject", "domain", "category") else ""
    caption = f"Accuracy by {words}{place}, with 95% intervals; in brackets the number of items."
    caption += f" The {_MAX_BARS} largest of {len(sizes)} groups." if len(sizes) > _MAX_BARS else ""
    return Picture(name, bars_figure(bars, title=f"{title}: accuracy by {words}"), caption + no_width_note(scores))


def _tokens_picture(task: str, title: str, evaluations: Mapping[str, Evaluation], groups: Groups) -> Picture:
    """Draws accuracy against tokens; the first numeric key that is no year says how hard an item is."""
    level = next(
        (key for key, scores in groups.items() if key != "year" and all(map(is_number, group_sizes(scores)))), None
    )
    points = {}
    for label, evaluation in evaluations.items():
        s, by_level = evaluation.scores, groups[level][label] if level else {}
        levels = [(group.mean_tokens, group.accuracy, value) for value, group in by_level.items()]
        points[label] = TokenPoint(s.mean_tokens, s.accuracy, s.interval.low, s.interval.high, levels)
    caption = "Accuracy, with its 95% interval, against the mean length of responses (Figure 11)."
    caption += f" Small points: by {level.replace('_', ' ')}, the first and the last named." if level else ""
    return Picture(f"{task}_tokens", tokens_figure(points, title=f"{title}: accuracy against tokens"), caption)


def _published(evaluations: Mapping[str, Evaluation]) -> dict[str, tuple[float, float | None]]:
    """Returns published accuracies with their standard deviations, as shares; none for figures of another unit."""
    row = PUBLISHED.get(next(iter(evaluations.values())).benchmark)
    if row is None or row.unit != "%":
        return {}
    return {
        model: (mean / 100, row.sds[model] / 100 if model in row.sds else None) for model, mean in row.means.items()
    }


def _quantity(evaluation: Evaluation, name: str) -> tuple[float, float, float]:
    """Returns a value with the ends of its interval; a band without width where there is none."""
    s = evaluation.scores
    if name == "accuracy":
        return s.accuracy, s.interval.low, s.interval.high
    value = s.mean_tokens if name == "tokens" else s.truncated
    return value, value, value


def _line(x: Sequence[float], values: Sequence[tuple[float, float, float]]) -> Line:
    mean, low, high = np.array(values, float).T
    return Line(np.array(x, float), mean, low, high)
