"""What tables and figures need of an evaluation, from its table of responses: groups, best and majority of k, pairs."""

import dataclasses
import math
from collections.abc import Mapping

from phi4r.evals.breakdown import GroupScores, grouped
from phi4r.evals.curves import best_of_k, worst_of_k
from phi4r.evals.reporting.collected import Evaluation
from phi4r.evals.scores import PairedTest, paired_test
from phi4r.evals.vote_chances import MAX_RUNS, majority_of_k

SAMPLES = 5  # k of the paper's best, average and majority of 5 (Figures 12 and 17)
MAX_GROUPS = 60  # values of a key that results are broken down by


@dataclasses.dataclass(frozen=True)
class OfK:
    """What k samples of an item can give; shares, means over items.

    Attributes:
      best: chance that one of k samples is right, the unbiased pass@k.
      worst: chance that all of them are right.
      majority: accuracy of their vote; None where wrong answers cannot be told apart.
    """

    best: float
    worst: float
    majority: float | None


Value = str | float  # of a group: a subject, a year
Groups = dict[str, dict[str, dict[Value, GroupScores]]]  # key -> label of the model -> value -> its score


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A paired test of two models on the items and runs that both have.

    Attributes:
      test: of B against A.
      num_items: that both have.
      num_runs: of A and of B that were compared.
      same_problems: whether both were asked the same set, by its hash; where not, an item is known by its id alone.
    """

    test: PairedTest
    num_items: int
    num_runs: tuple[int, int]
    same_problems: bool


def of_k(evaluation: Evaluation, k: int) -> OfK | None:
    """Returns best, worst and majority of `k` samples; None where an item has fewer."""
    table = evaluation.table
    if table.correct.shape[1] < k:
        return None
    return OfK(
        best=float(best_of_k(table.correct)[:, k - 1].mean()),
        worst=float(worst_of_k(table.correct)[:, k - 1].mean()),
        majority=float(majority_of_k(table.classes, table.correct)[:, k - 1].mean()) if can_vote(evaluation) else None,
    )


def can_vote(evaluation: Evaluation) -> bool:
    """Whether wrong answers can be told apart, as those of programs cannot, and their number can be counted."""
    table = evaluation.table
    wrong_answers = any(label is not None and not label[0] for row in table.classes for label in row)
    return (wrong_answers or bool(table.correct.all())) and table.correct.shape[1] <= MAX_RUNS


def all_groups(evaluations: Mapping[str, Evaluation]) -> Groups:
    """Breaks evaluations of one task down by every key that has at least two and at most `MAX_GROUPS` values."""
    keys = dict.fromkeys(key for evaluation in evaluations.values() for key in evaluation.groups)
    groups = {}
    for key in keys:
        items = (values for evaluation in evaluations.values() for values in evaluation.groups.get(key, ()))
        if 2 <= len({value for values in items for value in values}) <= MAX_GROUPS:
            groups[key] = {label: group_scores(evaluation, key) for label, evaluation in evaluations.items()}
    return groups


def group_scores(evaluation: Evaluation, key: str) -> dict[Value, GroupScores]:
    """Breaks an evaluation down by the values of `key`, in the order of `breakdown.grouped`."""
    table, none = evaluation.table, ((),) * len(evaluation.table.ids)
    labels = evaluation.groups.get(key, none)
    return {group.label: group for group in grouped(labels, table.correct, table.num_tokens, table.truncated)}


def group_sizes(scores: Mapping[str, Mapping[Value, GroupScores]]) -> dict[Value, int]:
    """Returns how many items every group has, the most where models were asked different ones."""
    sizes: dict[Value, int] = {}
    for groups in scores.values():
        for value, group in groups.items():
            sizes[value] = max(sizes.get(value, 0), group.num_items)
    return dict(sorted(sizes.items())) if all(map(is_number, sizes)) else sizes


def is_number(value: Value) -> bool:
    """Whether a value has a place on an axis."""
    return not isinstance(value, str) and math.isfinite(value)


def compare(a: Evaluation, b: Evaluation) -> Comparison | None:
    """Tests B against A on the items that both have; None if there are none.

    Where neither number of runs divides the other, the first runs of the model with more are compared: the exact test
    works in units of one part in the least common multiple, which would be very many.
    """
    place = {item: row for row, item in enumerate(a.table.ids)}
    common = [(place[item], row) for row, item in enumerate(b.table.ids) if item in place]
    if not common:
        return None
    rows_a, rows_b = map(list, zip(*common, strict=True))
    runs = (a.table.correct.shape[1], b.table.correct.shape[1])
    if math.lcm(*runs) > max(runs):
        runs = (min(runs),) * 2
    test = paired_test(a.table.correct[rows_a, : runs[0]], b.table.correct[rows_b, : runs[1]])
    same_problems = a.protocol.get("problems") == b.protocol.get("problems")
    return Comparison(test, len(common), runs, same_problems)
