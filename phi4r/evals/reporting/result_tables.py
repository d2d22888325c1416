"""The tables of a report: results beside the published ones (Tables 1 and 2), statistics, groups, comparisons."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from phi4r.evals.breakdown import GroupScores
from phi4r.evals.distributions import two_level_interval
from phi4r.evals.reporting.collected import Evaluation, Model
from phi4r.evals.reporting.derived import Comparison, Value, compare, group_sizes, of_k
from phi4r.evals.reporting.markup import Cell
from phi4r.evals.reporting.published import GENERAL, MODELS, PUBLISHED, REASONING, SOURCE, PublishedRow
from phi4r.evals.reporting.tables import Table, percent, spread
from phi4r.evals.scores import Interval

_RESULTS_CAPTION = (
    "Accuracy in percent, with the sample standard deviation over runs in brackets; under it the number of items and "
    "runs, and the share of responses that ran into the token limit."
)
_PUBLISHED_CAPTION = f" Published figures are those of {SOURCE}; their items and decoding may differ from ours."


def task_names(models: Sequence[Model]) -> list[str]:
    """Returns all tasks of all models: those of the published tables in their order, then the others."""
    place = {benchmark: number for number, benchmark in enumerate(PUBLISHED)}
    found = {name: evaluation for model in models for name, evaluation in model.evaluations.items()}
    return sorted(found, key=lambda name: place.get(found[name].benchmark, len(place)))


def by_model(models: Sequence[Model], task: str) -> dict[str, Evaluation]:
    """Returns the evaluations of a task by the label of the model."""
    return {model.label: model.evaluations[task] for model in models if task in model.evaluations}


def results_tables(models: Sequence[Model]) -> Iterator[tuple[str, Table]]:
    """Yields (heading, table) in the layout of Tables 1 and 2: a line a benchmark, our models, then published ones.

    Only benchmarks that one of the models was asked are shown.
    """
    rows = {task: PUBLISHED.get(_benchmark(models, task)) for task in task_names(models)}
    for heading, name, published in (
        ("Reasoning benchmarks (Table 1, Figure 8)", "table1", REASONING),
        ("General benchmarks (Table 2)", "table2", GENERAL),
        ("Other tasks", "other_tasks", (None,)),
    ):
        asked = {task: row for task, row in rows.items() if row in published}
        if asked:
            yield heading, _results_table(name, models, asked)


def _results_table(name: str, models: Sequence[Model], rows: Mapping[str, PublishedRow | None]) -> Table:
    shown = [model for model in MODELS if any(row and model in row.means for row in rows.values())]
    header = ["benchmark", *(model.label for model in models), *(Cell(m, "published", muted=True) for m in shown)]
    lines = []
    for task, row in rows.items():
        evaluations = by_model(models, task)
        title = next(iter(evaluations.values())).title
        ours = [_result_cell(evaluations.get(model.label), row) for model in models]
        theirs = [Cell(_published_text(row, model), muted=True) if row else "" for model in shown]
        lines.append([Cell(title, row.unit) if row and row.unit != "%" else title, *ours, *theirs])
    return Table(name, header, lines, _RESULTS_CAPTION + _PUBLISHED_CAPTION * bool(shown))


def _result_cell(evaluation: Evaluation | None, row: PublishedRow | None) -> Cell | str:
    """Returns accuracy and spread, and what an accuracy must not go without: items, runs, share truncated."""
    if evaluation is None:
        return ""
    scores = evaluation.scores
    runs = f"{scores.num_runs} run{'s' * (scores.num_runs > 1)}"
    note = f"N {scores.num_items}, {runs}, {percent(scores.truncated)}% cut"
    if row is None or row.unit == "%":
        return Cell(spread(percent(scores.accuracy), percent(scores.sd)), note)
    rating = evaluation.summary.get(row.unit.lower())
    return Cell("no rating" if rating is None else f"{rating:.0f}", note)


def _published_text(row: PublishedRow, model: str) -> str:
    mean, sd = row.means.get(model), row.sds.get(model)
    form = "{:.1f}" if row.unit == "%" else "{:g}"
    return "" if mean is None else spread(form.format(mean), "" if sd is None else form.format(sd))


def scores_table(models: Sequence[Model], k: int) -> Table:
    """Returns the statistics of every evaluation, a line each; k is the size of draws of samples."""
    lines = [_statistics(evaluation, label, k) for evaluation, label in _all_evaluations(models)]
    note = "Shares in percent. The interval is over items, the runs of an item kept together (bootstrap), or Wilson's "
    note += "for one run; the two-level one draws runs within items too. "
    if k > 1:
        note += f"All, majority and one of {k} are expectations over all draws of {k} of an item's samples. "
    note += "Not judged are responses on which the verifier ran out of time or broke down, or that rules cannot judge; "
    return Table("scores", list(lines[0]), [list(line.values()) for line in lines], note + "they count as wrong.")


def _statistics(evaluation: Evaluation, label: str, k: int) -> dict[str, str | int]:
    """Returns a line of the table of statistics, by the names of its columns."""
    s, correct, statuses = evaluation.scores, evaluation.table.correct, evaluation.statuses
    draw = of_k(evaluation, k)
    worst, majority, best = (draw.worst, draw.majority, draw.best) if draw else (None, None, None)
    samples = {f"all of {k}": percent(worst), f"majority of {k}": percent(majority), f"one of {k}": percent(best)}
    return {
        "benchmark": evaluation.title,
        "model": label,
        "accuracy": percent(s.accuracy),
        "sd over runs": percent(s.sd),
        "95% interval": interval_text(s.interval),
        "two-level": interval_text(two_level_interval(correct)) if s.num_runs > 1 else "",
        "items": s.num_items,
        "runs": s.num_runs,
        "worst run": percent(s.worst_run),
        "best run": percent(s.best_run),
        **(samples if k > 1 else {}),
        "truncated": percent(s.truncated),
        "no answer": percent(statuses.get("no_answer", 0) / correct.size),
        "not judged": sum(statuses.get(status, 0) for status in ("timeout", "error", "unjudged")),
        "mean tokens": f"{s.mean_tokens:.0f}",
        "tokens, right": "" if s.mean_tokens_right is None else f"{s.mean_tokens_right:.0f}",
        "tokens, wrong": "" if s.mean_tokens_wrong is None else f"{s.mean_tokens_wrong:.0f}",
    }


def group_table(task: str, key: str, scores: Mapping[str, Mapping[Value, GroupScores]]) -> Table:
    """Returns accuracy by the values of `key`, a line a value; `scores` are of `derived.all_groups`."""
    lines = []
    for value, size in group_sizes(scores).items():
        cells = [
            Cell(percent(groups[value].accuracy), interval_text(groups[value].interval)) if value in groups else ""
            for groups in scores.values()
        ]
        lines.append([group_name(value), size, *cells])
    caption = f"Accuracy in percent by {key}, with its 95% interval."
    return Table(f"{task}_{key}", [key, "items", *scores], lines, caption)


def group_name(value: Value) -> str:
    """Returns the value of a group as text: 2024 for 2024.0."""
    return value if isinstance(value, str) else f"{value:.12g}"


def pairs(models: Sequence[Model], *, first_only: bool) -> list[tuple[Model, Model]]:
    """Returns the pairs that are compared: all of them, or each model with the first one."""
    return [(models[0], model) for model in models[1:]] if first_only else list(itertools.combinations(models, 2))


def comparison_table(models: Sequence[Model], *, first_only: bool) -> Table | None:
    """Returns the paired tests of all pairs of models on all tasks that both were asked; None if there are none."""
    lines = []
    for task in task_names(models):
        for a, b in pairs(models, first_only=first_only):
            if task in a.evaluations and task in b.evaluations:
                comparison = compare(a.evaluations[task], b.evaluations[task])
                if comparison is not None:
                    lines.append([a.evaluations[task].title, b.label, a.label, *_comparison_cells(comparison)])
    if not lines:
        return None
    header = ["benchmark", "model", "against", "points", "95% interval", "p", "common items", "runs"]
    note = "Difference of accuracies in points on the items that both models were asked, its bootstrap interval over "
    note += "items, and the exact two-sided p-value of flipping the signs of the items' differences. The p-values are "
    note += f"not corrected for their number, {len(lines)}."
    return Table("comparisons", header, lines, note)


def _comparison_cells(comparison: Comparison) -> list[str | int]:
    test = comparison.test
    p = "< 1e-9" if test.p_value < 1e-9 else f"{test.p_value:.2g}"
    runs = f"{comparison.num_runs[1]}, {comparison.num_runs[0]}"
    return [f"{100 * test.difference:+.1f}", interval_text(test.interval, sign=True), p, comparison.num_items, runs]


def summary_table(models: Sequence[Model]) -> Table | None:
    """Returns the figures that benchmarks have besides accuracy, a line each; None if there are none."""
    lines = [
        [evaluation.title, label, name, _number(value)]
        for evaluation, label in _all_evaluations(models)
        for name, value in evaluation.summary.items()
    ]
    caption = "Figures of a benchmark's own, from results.json; shares are fractions."
    return Table("benchmark_figures", ["benchmark", "model", "figure", "value"], lines, caption) if lines else None


def apart_table(models: Sequence[Model]) -> Table | None:
    """Returns the figures that rest on another model, a judge or an extraction; None if there are none."""
    lines = []
    for evaluation, label in _all_evaluations(models):
        row = PUBLISHED.get(evaluation.benchmark)
        means = [f"{model} {_published_text(row, model)}" for model in row.means] if row else []
        for section, figures in evaluation.apart.items():
            for name, value in figures.items():
                headline = name in ("accuracy", "win_rate")
                published = Cell(", ".join(means), muted=True) if headline else ""
                lines.append([evaluation.title, label, section, name, _number(value), published])
    header = ["benchmark", "model", "by", "figure", "value", Cell("published", "percent", muted=True)]
    caption = "Figures that rest on the word of another model; shares are fractions. They are in no other table and no "
    return Table("judged", header, lines, f"{caption}figure. Published: {SOURCE}.") if lines else None


def interval_text(interval: Interval, *, sign: bool = False) -> str:
    """Returns an interval of shares in percent."""
    form = "{:+.1f}" if sign else "{:.1f}"
    return f"{form.format(100 * interval.low)} to {form.format(100 * interval.high)}"


def _all_evaluations(models: Sequence[Model]) -> Iterator[tuple[Evaluation, str]]:
    """Yields every evaluation with the label of its model, task by task."""
    for task in task_names(models):
        for label, evaluation in by_model(models, task).items():
            yield evaluation, label


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _benchmark(models: Sequence[Model], task: str) -> str:
    return next(iter(by_model(models, task).values())).benchmark
