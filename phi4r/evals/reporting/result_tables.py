"""The tables of a report: results beside the published ones (Tables 1 and 2), statistics, groups, comparisons."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phi4r.evals.breakdown import GroupScores
from phi4r.evals.reporting.collected import Evaluation, Model
from phi4r.evals.reporting.derived import Comparison, Value, compare, group_sizes
from phi4r.evals.reporting.markup import Cell
from phi4r.evals.reporting.published import GENERAL, MODELS, PUBLISHED, REASONING, SOURCE, PublishedRow
from phi4r.evals.reporting.records import (
    comparison_record,
    group_records,
    published_records,
    result_record,
    statistics_record,
)
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
    lines, records = [], []
    for task, row in rows.items():
        evaluations = by_model(models, task)
        title = next(iter(evaluations.values())).title
        ours = [_result_cell(evaluations.get(model.label), row) for model in models]
        theirs = [Cell(_published_text(row, model), muted=True) if row else "" for model in shown]
        lines.append([Cell(title, row.unit) if row and row.unit != "%" else title, *ours, *theirs])
        records += [result_record(title, label, evaluation, row) for label, evaluation in evaluations.items()]
        records += published_records(title, row) if row else []
    return Table(name, header, lines, _RESULTS_CAPTION + _PUBLISHED_CAPTION * bool(shown), records)


def _result_cell(evaluation: Evaluation | None, row: PublishedRow | None) -> Cell | str:
    """Returns accuracy and spread, and what an accuracy must not go without: items, runs, share truncated."""
    if evaluation is None:
        return ""
    scores = evaluation.scores
    runs = f"{scores.num_runs} run{'s' * (scores.num_runs > 1)}"
    whole = evaluation.protocol.get("num_items")
    unfinished = f" of {whole}" if isinstance(whole, int) and whole > scores.num_items else ""
    note = f"N {scores.num_items}{unfinished}, {runs}, {percent(scores.truncated)}% cut"
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
    records = [statistics_record(evaluation, label, k) for evaluation, label in _all_evaluations(models)]
    note = "Shares in percent. The interval is over items, the runs of an item kept together (bootstrap), or Wilson's "
    note += "for one run; the two-level one draws runs within items too. "
    if k > 1:
        note += f"All, majority and one of {k} are expectations over all draws of {k} of an item's samples. "
    note += "Not judged are responses on which the verifier ran out of time or broke down, or that rules cannot judge; "
    note += "they count as wrong."
    lines = [_statistics(record, k) for record in records]
    return Table("scores", list(lines[0]), [list(line.values()) for line in lines], note, records)


def _statistics(record: Mapping[str, Any], k: int) -> dict[str, str | int]:
    """Returns a line of the table of statistics, by the names of its columns."""
    samples = {f"{name} of {k}": percent(record[f"{name}_of_k"]) for name in ("all", "majority", "one")}
    two_level = record["two_level_low"], record["two_level_high"]
    responses = record["items"] * record["runs"]
    tokens = {name: record[name] for name in ("mean_tokens", "mean_tokens_right", "mean_tokens_wrong")}
    return {
        "benchmark": record["benchmark"],
        "model": record["model"],
        "accuracy": percent(record["accuracy"]),
        "sd over runs": percent(record["sd_over_runs"]),
        "95% interval": interval_text(Interval(record["low"], record["high"])),
        "two-level": "" if None in two_level else interval_text(Interval(*two_level)),
        "items": record["items"],
        "runs": record["runs"],
        "worst run": percent(record["worst_run"]),
        "best run": percent(record["best_run"]),
        **(samples if k > 1 else {}),
        "truncated": percent(record["truncated"]),
        "no answer": percent(record.get("num_no_answer", 0) / responses),
        "not judged": sum(record.get(f"num_{status}", 0) for status in ("timeout", "error", "unjudged")),
        "mean tokens": f"{tokens['mean_tokens']:.0f}",
        "tokens, right": "" if tokens["mean_tokens_right"] is None else f"{tokens['mean_tokens_right']:.0f}",
        "tokens, wrong": "" if tokens["mean_tokens_wrong"] is None else f"{tokens['mean_tokens_wrong']:.0f}",
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
    caption = f"Accuracy in percent by {key.replace('_', ' ')}, with its 95% interval." + no_width_note(scores)
    header = [key.replace("_", " "), "items", *scores]
    return Table(f"{task}_{key}", header, lines, caption, group_records(scores))


def no_width_note(scores: Mapping[str, Mapping[Value, GroupScores]]) -> str:
    """Returns a warning where resampling says nothing, as all items of a group have one accuracy; else nothing."""
    intervals = (group.interval for groups in scores.values() for group in groups.values())
    if all(interval.low < interval.high for interval in intervals):
        return ""
    return " An interval without width says that all items of a group do alike, not that its accuracy is known so well."


def group_name(value: Value) -> str:
    """Returns the value of a group as text: 2024 for 2024.0."""
    return value if isinstance(value, str) else f"{value:.12g}"


def pairs(models: Sequence[Model], *, first_only: bool) -> list[tuple[Model, Model]]:
    """Returns the pairs that are compared: all of them, or each model with the first one."""
    return [(models[0], model) for model in models[1:]] if first_only else list(itertools.combinations(models, 2))


def comparison_table(models: Sequence[Model], *, first_only: bool) -> Table | None:
    """Returns the paired tests of all pairs of models on all tasks that both were asked; None if there are none."""
    lines, records = [], []
    for task in task_names(models):
        for a, b in pairs(models, first_only=first_only):
            if task in a.evaluations and task in b.evaluations:
                comparison = compare(a.evaluations[task], b.evaluations[task])
                if comparison is not None:
                    names = [a.evaluations[task].title, b.label, a.label]
                    lines.append([*names, *_comparison_cells(comparison)])
                    records.append(comparison_record(*names, comparison))
    if not lines:
        return None
    header = ["benchmark", "model", "against", "points", "95% interval", "p", "common items", "runs"]
    note = "Difference of accuracies in points on the items that both models were asked, its bootstrap interval over "
    note += "items, and the exact two-sided p-value of flipping the signs of the items' differences. The p-values are "
    note += f"not corrected for their number, {len(lines)}."
    if any(record["same_problems"] == "no" for record in records):
        note += " Where problems differ the sets are not the same by their hashes, and items are paired by id alone."
    return Table("comparisons", header, lines, note, records)


def comparison_notes(models: Sequence[Model], *, first_only: bool) -> Iterator[str]:
    """Yields a sentence for each pair of models that were asked a task, and no item of it in common."""
    for task in task_names(models):
        for a, b in pairs(models, first_only=first_only):
            items = [set(model.evaluations[task].table.ids) for model in (a, b) if task in model.evaluations]
            if len(items) == 2 and items[0].isdisjoint(items[1]):
                yield f"{task}: {a.label} and {b.label} have no items in common and are not compared."


def _comparison_cells(comparison: Comparison) -> list[str | Cell]:
    test = comparison.test
    p = "< 1e-9" if test.p_value < 1e-9 else f"{test.p_value:.2g}"
    runs = f"{comparison.num_runs[1]}, {comparison.num_runs[0]}"
    items = Cell(str(comparison.num_items), "" if comparison.same_problems else "problems differ")
    return [f"{100 * test.difference:+.1f}", interval_text(test.interval, sign=True), p, items, runs]


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
