"""The figures of the tables as records for programs: one number a column, shares as fractions, None for nothing."""

from collections.abc import Mapping
from typing import Any

from phi4r.evals.breakdown import GroupScores
from phi4r.evals.distributions import two_level_interval
from phi4r.evals.reporting.collected import Evaluation
from phi4r.evals.reporting.derived import Comparison, Value, can_vote, of_k
from phi4r.evals.reporting.published import PublishedRow

Record = dict[str, Any]


def result_record(title: str, label: str, evaluation: Evaluation, row: PublishedRow | None) -> Record:
    """Returns our figure of a benchmark: a rating where the published one is a rating, else the accuracy."""
    s, summary = evaluation.scores, evaluation.summary
    record = {"benchmark": title, "model": label, "published": "no"}
    if row is None or row.unit == "%":
        record |= {"unit": "share", "value": s.accuracy, "sd_over_runs": s.sd}
        record |= {"low": s.interval.low, "high": s.interval.high}
    else:
        name = row.unit.lower()
        record |= {"unit": row.unit, "value": summary.get(name), "sd_over_runs": None}
        record |= {"low": summary.get(f"{name}_low"), "high": summary.get(f"{name}_high")}
    return record | {"items": s.num_items, "runs": s.num_runs, "truncated": s.truncated, "mean_tokens": s.mean_tokens}


def published_records(title: str, row: PublishedRow) -> list[Record]:
    """Returns the published figures of a benchmark."""
    unit, scale = ("share", 100.0) if row.unit == "%" else (row.unit, 1.0)
    sds = {model: sd / scale for model, sd in row.sds.items()}
    return [
        {
            "benchmark": title,
            "model": model,
            "published": "yes",
            "unit": unit,
            "value": mean / scale,
            "sd_over_runs": sds.get(model),
        }
        for model, mean in row.means.items()
    ]


def statistics_record(evaluation: Evaluation, label: str, k: int) -> Record:
    """Returns the statistics of an evaluation; `k` is the size of draws of samples."""
    s, draw = evaluation.scores, of_k(evaluation, k)
    two_level = two_level_interval(evaluation.table.correct) if s.num_runs > 1 else None
    return {
        "benchmark": evaluation.title,
        "model": label,
        "accuracy": s.accuracy,
        "sd_over_runs": s.sd,
        "low": s.interval.low,
        "high": s.interval.high,
        "two_level_low": two_level.low if two_level else None,
        "two_level_high": two_level.high if two_level else None,
        "items": s.num_items,
        "runs": s.num_runs,
        "worst_run": s.worst_run,
        "best_run": s.best_run,
        "k": k,
        "all_of_k": draw.worst if draw else None,
        "majority_of_k": draw.majority if draw else None,
        "one_of_k": draw.best if draw else None,
        "all_of_all_runs": s.all_at_k,
        "majority_of_all_runs": s.majority_at_k if can_vote(evaluation) else None,
        "one_of_all_runs": s.pass_at_k,
        "truncated": s.truncated,
        **{f"num_{status}": evaluation.statuses.get(status, 0) for status in ("ok", "no_answer", "timeout", "error")},
        "num_unjudged": evaluation.statuses.get("unjudged", 0),
        "mean_tokens": s.mean_tokens,
        "mean_tokens_right": s.mean_tokens_right,
        "mean_tokens_wrong": s.mean_tokens_wrong,
    }


def group_records(scores: Mapping[str, Mapping[Value, GroupScores]]) -> list[Record]:
    """Returns all that is known of the groups of a key, a record for each model and group."""
    return [
        {
            "group": value,
            "model": label,
            "items": group.num_items,
            "accuracy": group.accuracy,
            "low": group.interval.low,
            "high": group.interval.high,
            "truncated": group.truncated,
            "mean_tokens": group.mean_tokens,
            "mean_tokens_right": group.mean_tokens_right,
            "mean_tokens_wrong": group.mean_tokens_wrong,
        }
        for label, groups in scores.items()
        for value, group in groups.items()
    ]


def comparison_record(benchmark: str, label: str, against: str, comparison: Comparison) -> Record:
    """Returns the paired test of a model against another."""
    test, (runs_against, runs) = comparison.test, comparison.num_runs
    return {
        "benchmark": benchmark,
        "model": label,
        "against": against,
        "difference": test.difference,
        "low": test.interval.low,
        "high": test.interval.high,
        "p": test.p_value,
        "common_items": comparison.num_items,
        "runs": runs,
        "runs_against": runs_against,
        "same_problems": "yes" if comparison.same_problems else "no",
    }
