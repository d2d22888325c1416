"""The statistics of a finished evaluation, as JSON values and as lines for a terminal."""

import collections
import dataclasses
from typing import Any

from phi4r.data.records import Problem
from phi4r.evals.benchmarks.table import BENCHMARKS
from phi4r.evals.runner import EvalResult
from phi4r.evals.scores import Scores
from phi4r.evals.tasks import Task


def results_of(result: EvalResult, task: Task) -> dict[str, Any]:
    """Returns the statistics with their protocol, as JSON values; shares are fractions."""
    return {
        "task": result.task,
        **dataclasses.asdict(result.scores),
        "unjudged": _num_unjudged(result),
        "refused": sum(response.finish_reason == "refused" for response in result.responses),
        "malformed": list(task.malformed),
        "summary": _summary(result, task),
        "protocol": result.protocol,
    }


def results_text(result: EvalResult, task: Task) -> str:
    """Returns the statistics as lines for a terminal; accuracies in percent, lengths in tokens."""
    scores = result.scores
    rows = [("accuracy", _accuracy_text(scores))]
    if scores.num_runs > 1:
        k = scores.num_runs
        rows += [
            ("best, worst run", f"{_percent(scores.best_run)}, {_percent(scores.worst_run)}"),
            (f"pass@{k}, majority@{k}", f"{_percent(scores.pass_at_k)}, {_percent(scores.majority_at_k)}"),
        ]
    rows += [(name, f"{value:.4g}") for name, value in _summary(result, task).items()]
    rows += [
        ("truncated", f"{_percent(scores.truncated)} of the responses"),
        (
            "tokens",
            f"{scores.mean_tokens:.0f} a response; right {_tokens(scores.mean_tokens_right)}, "
            f"wrong {_tokens(scores.mean_tokens_wrong)}",
        ),
    ]
    if unjudged := _num_unjudged(result):
        rows.append(("not judged", f"{unjudged} responses, counted as wrong: see their status in the file"))
    if refused := sum(response.finish_reason == "refused" for response in result.responses):
        rows.append(("refused", f"{refused} requests by the server, counted as wrong"))
    if task.malformed:
        rows.append(("malformed rows", f"{len(task.malformed)} left out, listed in results.json"))
    runs = f"{scores.num_runs} run" + ("s" if scores.num_runs > 1 else "")
    lines = [f"{result.task}: {scores.num_items} problems, {runs}"]
    return "\n".join([*lines, *(f"  {name:<24}{value}" for name, value in rows)])


def _summary(result: EvalResult, task: Task) -> dict[str, float]:
    """Returns the benchmark's own figures, and the means of what its verifier measured besides right and wrong."""
    benchmark = BENCHMARKS.get(task.benchmark)
    if benchmark is not None and benchmark.summary is not None:
        return benchmark.summary(result.responses, {problem.id: _facts(problem, task) for problem in task.problems})
    measured = collections.defaultdict(list)
    for response in result.responses:
        for name, value in response.parts.items():
            measured[name].append(value)
    return {name: sum(values) / len(values) for name, values in measured.items()}


def _facts(problem: Problem, task: Task) -> dict[str, Any]:
    """Returns all that is known of a problem; None for a group that it is not in."""
    return {**dict.fromkeys(task.groups), **problem.meta}


def _num_unjudged(result: EvalResult) -> int:
    """Counts the responses that no rule can judge, or whose judge was stopped or broke down."""
    statuses = collections.Counter(response.status for response in result.responses)
    return statuses["timeout"] + statuses["error"] + statuses["unjudged"]


def _accuracy_text(scores: Scores) -> str:
    low, high = _percent(scores.interval.low), _percent(scores.interval.high)
    spread = "" if scores.sd is None else f", sd over runs {100 * scores.sd:.1f}"
    return f"{_percent(scores.accuracy)} (95% interval {low} to {high}{spread})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _tokens(mean: float | None) -> str:
    return "-" if mean is None else f"{mean:.0f}"
