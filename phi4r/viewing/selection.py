"""Which steps and problems a page carries: a long run has far more text than a browser can hold."""

import dataclasses
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phi4r.errors import UserError
from phi4r.rl.records import StoredRollout
from phi4r.rl.repetition import RepetitionSettings
from phi4r.viewing.encoding import encode_response, mean, number, pack, to_json


@dataclasses.dataclass(frozen=True)
class StepIndex:
    """A step's rollout: which records answer which problem, and its figures.

    Attributes:
      step: its number.
      rollout: the records.
      groups: problem id -> places of the records of its answers, in the order of the batch.
      figures: means over all answers of the step, named as in metrics.jsonl.
    """

    step: int
    rollout: StoredRollout
    groups: Mapping[str, Sequence[int]]
    figures: Mapping[str, float | None]


def parse_steps(text: str, available: Sequence[int]) -> list[int]:
    """Returns the steps that "1,5,10-20" names; of a range those that have rollouts.

    Raises:
      UserError: for something else than steps, or steps without rollouts.
    """
    chosen: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"--steps={text}: {part!r} is no step; write steps and ranges as 1,5,10-20.")
        found = {step for step in available if int(first) <= step <= int(last or first)}
        if not found:
            some = ", ".join(map(str, available[:8])) + (", ..." if len(available) > 8 else "")
            raise UserError(f"--steps={text}: there is no rollout of step {part.strip()}; there are {some}.")
        chosen |= found
    return sorted(chosen)


def spread_steps(available: Sequence[int], most: int) -> list[int]:
    """Returns at most `most` of the steps: the first, the last, and some at even distances between them."""
    places = np.unique(np.round(np.linspace(0, len(available) - 1, min(most, len(available)))).astype(int))
    return [available[place] for place in places] if most > 1 else list(available[-most:])


def index_step(step: int, path: pathlib.Path) -> StepIndex:
    """Reads a step's file once, and keeps of it where everything is.

    Raises:
      UserError: for a record that cannot be read, or is of something else.
    """
    rollout = StoredRollout(path)
    groups: dict[str, list[int]] = {}
    rows = []
    for place, record in enumerate(rollout):
        try:
            groups.setdefault(str(record["problem"]), []).append(place)
            rows.append(_row(record))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{rollout.where(place)} is not a record of a rollout (see {error}).") from error
    return StepIndex(step, rollout, groups, _figures(rows))


def pack_step(
    index: StepIndex, problems: Sequence[str], repetition: RepetitionSettings, *, budget: int
) -> dict[str, Any]:
    """Returns a step for the page: the packed texts of as many problems as the budget holds, but of one at least.

    Args:
      index: the step.
      problems: its problems, those first that matter most.
      repetition: what counts as a repetition.
      budget: characters of the packed texts.

    Raises:
      UserError: for a record that cannot be read, or is of something else.
    """
    kept: dict[str, bytes] = {}
    used = 0
    for problem in problems:
        group = to_json(_group(index, problem, repetition))
        used += len(pack(group))  # a little more than its share of the whole, which is packed together
        if kept and used > budget:
            break
        kept[problem] = group
    in_order = [kept[problem] for problem in index.groups if problem in kept]
    return {
        "step": index.step,
        "problems": len(index.groups),
        "kept": len(in_order),
        "answers": len(index.rollout),
        "figures": dict(index.figures),
        "packed": pack(b"[" + b",".join(in_order) + b"]"),
    }


def by_importance(index: StepIndex, others: Sequence[StepIndex]) -> list[str]:
    """Returns the problems of a step, those first that most of the other steps ask too: they can be compared."""
    asked = Counter(problem for other in others for problem in other.groups)
    return sorted(index.groups, key=lambda problem: -asked[problem])


def _group(index: StepIndex, problem: str, repetition: RepetitionSettings) -> dict[str, Any]:
    """Returns a problem with all its answers."""
    places = index.groups[problem]
    records = [index.rollout[place] for place in places]
    return {
        "problem": problem,
        "prompt": str(records[0].get("prompt", "")),
        "reference": str(records[0].get("reference", "")),
        "answers": [
            encode_response(record, repetition, where=index.rollout.where(place))
            for place, record in zip(places, records, strict=True)
        ],
    }


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the figures of a step are made of."""
    return {
        "right": bool(record["correct"]),
        "reward": float(record["reward"]),
        "length": len(record["tokens"]),
        "clipped": record["finish_reason"] != "stop",
        "entropy": record.get("entropies") or [],
        "sample_s": record.get("sample_s"),
        "judge_s": record.get("judge_s"),
    }


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Returns the figures of a step; None for a mean of nothing."""
    sums = [(sum(row["entropy"]), len(row["entropy"])) for row in rows]
    total, weight = (sum(column) for column in zip(*sums, strict=True))
    return {
        "reward": mean([row["reward"] for row in rows]),
        "accuracy": mean([row["right"] for row in rows]),
        "length": mean([row["length"] for row in rows]),
        "length_correct": mean([row["length"] for row in rows if row["right"]]),
        "length_wrong": mean([row["length"] for row in rows if not row["right"]]),
        "clipped_share": mean([row["clipped"] for row in rows]),
        "entropy": number(total / weight) if weight else None,
        "sample_s": rows[0]["sample_s"],
        "judge_s": rows[0]["judge_s"],
    }
