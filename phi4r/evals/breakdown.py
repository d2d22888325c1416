"""Scores of parts of a benchmark: by year, subject, level (Figures 10, 11, 15 and 16 of the paper)."""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from phi4r.errors import UserError
from phi4r.evals.scores import Interval, item_bootstrap_interval, wilson_interval

Label = Hashable | Sequence[Hashable]
_NUM_RESAMPLES = 2000  # of one group; a benchmark may have a hundred


@dataclasses.dataclass(frozen=True)
class GroupScores:
    """What is reported of the items that share a label; shares are fractions, lengths are tokens.

    Attributes:
      label: of the group.
      num_items: N.
      accuracy: mean over items and runs.
      interval: 95% interval of the accuracy: over items (bootstrap), or Wilson's for one run.
      mean_tokens: mean length of a response.
      mean_tokens_right: mean length of right responses; None if there are none.
      mean_tokens_wrong: mean length of wrong responses; None if there are none.
      truncated: share of responses that ran into the token limit.
    """

    label: Hashable
    num_items: int
    accuracy: float
    interval: Interval
    mean_tokens: float
    mean_tokens_right: float | None
    mean_tokens_wrong: float | None
    truncated: float


def grouped(
    labels: Sequence[Label], correct: np.ndarray, num_tokens: np.ndarray, truncated: np.ndarray
) -> list[GroupScores]:
    """Breaks an evaluation down by a label of the items.

    Args:
      labels: one for each item. A list or tuple of labels puts the item into several groups, an empty one into none;
        None is a label like others ("unlabelled").
      correct: [N R] bool.
      num_tokens: [N R] int, lengths of the responses.
      truncated: [N R] bool, whether a response ran into the token limit.

    Returns:
      The groups: numbers in ascending order, then texts in alphabetical order.

    Raises:
      UserError: unless there is a label for each item.
    """
    correct = np.asarray(correct, bool)
    if len(labels) != len(correct):
        raise UserError(f"a breakdown needs a label for each item; there are {len(labels)} and {len(correct)} items.")
    members: dict[Hashable, list[int]] = {}
    for item, label in enumerate(labels):
        for one in dict.fromkeys(label) if isinstance(label, list | tuple) else [label]:
            members.setdefault(one, []).append(item)
    return [
        _group_scores(label, correct[members[label]], num_tokens[members[label]], truncated[members[label]])
        for label in sorted(members, key=_place)
    ]


def _group_scores(label: Hashable, correct: np.ndarray, num_tokens: np.ndarray, truncated: np.ndarray) -> GroupScores:
    num_items, num_runs = correct.shape
    if num_runs == 1:
        interval = wilson_interval(int(correct.sum()), num_items)
    else:
        interval = item_bootstrap_interval(correct, num_resamples=_NUM_RESAMPLES)
    right, wrong = num_tokens[correct], num_tokens[~correct]
    return GroupScores(
        label=label,
        num_items=num_items,
        accuracy=float(correct.mean()),
        interval=interval,
        mean_tokens=float(num_tokens.mean()),
        mean_tokens_right=float(right.mean()) if right.size else None,
        mean_tokens_wrong=float(wrong.mean()) if wrong.size else None,
        truncated=float(truncated.mean()),
    )


def _place(label: Hashable) -> tuple[bool, float, str]:
    """Sorts numbers by value, before all else by its text."""
    if isinstance(label, int | float):
        return False, float(label), ""
    return True, 0.0, str(label)
