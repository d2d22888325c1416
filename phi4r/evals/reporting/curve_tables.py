"""Tables of what figures show as lines: the accuracy of every run, curves over k, results over checkpoints."""

from collections.abc import Mapping, Sequence

from phi4r.evals.curves import Curve
from phi4r.evals.reporting.collected import Evaluation, Model
from phi4r.evals.reporting.markup import Cell
from phi4r.evals.reporting.result_tables import by_model, interval_text, task_names
from phi4r.evals.reporting.tables import Table, percent
from phi4r.evals.scores import Interval


def runs_table(task: str, evaluations: Mapping[str, Evaluation]) -> Table:
    """Returns the accuracy of every run, a line a run (Figure 9)."""
    runs = {label: evaluation.scores.run_accuracies for label, evaluation in evaluations.items()}
    lines = [
        [number + 1, *(percent(shares[number]) if number < len(shares) else "" for shares in runs.values())]
        for number in range(max(map(len, runs.values())))
    ]
    records = [
        {"model": label, "run": number, "accuracy": share}
        for label, shares in runs.items()
        for number, share in enumerate(shares, start=1)
    ]
    return Table(f"{task}_runs", ["run", *runs], lines, "Accuracy of every run in percent.", records)


def curve_table(task: str, statistic: str, curves: Mapping[str, Curve]) -> Table:
    """Returns what k samples give, a line for each k (Figure 2).

    Args:
      task: begins the names of files.
      statistic: "majority" or "pass_at_k", ends them.
      curves: model -> its curve.
    """
    lines = [
        [k, *(_curve_cell(curve, k) for curve in curves.values())]
        for k in range(1, 1 + max(len(curve.mean) for curve in curves.values()))
    ]
    records = [
        {"model": label, "k": k, "value": float(mean), "low": float(low), "high": float(high)}
        for label, curve in curves.items()
        for k, (mean, low, high) in enumerate(zip(curve.mean, curve.low, curve.high, strict=True), start=1)
    ]
    caption = "Percent, the expectation over all draws of k of an item's samples, with its 95% interval over items."
    return Table(f"{task}_{statistic}", ["k", *curves], lines, caption, records)


def checkpoints_table(steps: Sequence[int], models: Sequence[Model]) -> Table:
    """Returns accuracy, length and truncation over checkpoints, a line a checkpoint (Figure 4)."""
    tasks = task_names(models)
    titles = {task: next(iter(by_model(models, task).values())).title for task in tasks}
    lines, records = [], []
    for step, model in zip(steps, models, strict=True):
        found = {task: model.evaluations[task].scores for task in tasks if task in model.evaluations}
        notes = {
            task: f"{interval_text(s.interval)}; {s.mean_tokens:,.0f} tokens, {percent(s.truncated)}% cut"
            for task, s in found.items()
        }
        cells = [Cell(percent(found[task].accuracy), notes[task]) if task in found else "" for task in tasks]
        lines.append([step, *cells])
        for task, s in found.items():
            record = {"step": step, "model": model.label, "benchmark": titles[task], "accuracy": s.accuracy}
            record |= {"low": s.interval.low, "high": s.interval.high, "items": s.num_items, "runs": s.num_runs}
            records.append(record | {"truncated": s.truncated, "mean_tokens": s.mean_tokens})
    caption = (
        "Accuracy in percent; under it its 95% interval, the mean length of a response and the share of responses "
    )
    caption += "that ran into the token limit."
    return Table("checkpoints", ["step", *titles.values()], lines, caption, records)


def _curve_cell(curve: Curve, k: int) -> Cell | str:
    if k > len(curve.mean):
        return ""
    return Cell(percent(curve.mean[k - 1]), interval_text(Interval(curve.low[k - 1], curve.high[k - 1])))
