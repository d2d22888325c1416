"""The best checkpoint of a run by a named metric: which it is, and that it is never deleted.

The value of a checkpoint is stored inside it, so what is best is found again from the checkpoints themselves.
`best.json` beside them only repeats it, for people.
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from phi4r.errors import UserError

BEST_FILE = "best.json"


@dataclasses.dataclass(frozen=True)
class KeepBest:
    """By what the best checkpoint is chosen, which stays besides the newest ones.

    Attributes:
      metric: a number that the run measures on held-out data, as "eval_loss" or "dev_accuracy"; empty for none,
        so that no checkpoint is the best.
      mode: whether the least or the greatest value is the best; of equal ones the earliest.
    """

    metric: str
    mode: Literal["min", "max"]


class BestStep:
    """Keeps the values of the checkpoints on disk. Without settings nothing is ever best."""

    def __init__(self, settings: KeepBest | None):
        self._settings = settings
        self._values: dict[int, float] = {}

    @property
    def step(self) -> int | None:
        """The best step that was added and not removed; None if there is none."""
        if not self._values:
            return None
        sign = 1.0 if self._settings.mode == "min" else -1.0
        return min(self._values, key=lambda step: (sign * self._values[step], step))

    def improves(self, metrics: Mapping[str, float]) -> bool:
        """Whether `metrics` hold a value that is better than all before; one that is not a number never is."""
        value = self._value(metrics)
        if value is None:
            return False
        best = self.step
        if best is None:
            return True
        return value < self._values[best] if self._settings.mode == "min" else value > self._values[best]

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Notes what was measured at a step."""
        value = self._value(metrics)
        if value is not None:
            self._values[step] = value

    def remove(self, step: int) -> None:
        """Forgets a step whose checkpoint is gone."""
        self._values.pop(step, None)

    def publish(self, directory: pathlib.Path) -> None:
        """Writes best.json, or deletes it where nothing is best."""
        path, step = directory / BEST_FILE, self.step
        if step is None:
            path.unlink(missing_ok=True)
            return
        text = json.dumps({"step": step, self._settings.metric: self._values[step]}) + "\n"
        if not path.exists() or path.read_text() != text:
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_text(text)
            partial.replace(path)

    def _value(self, metrics: Mapping[str, float]) -> float | None:
        value = metrics.get(self._settings.metric) if self._settings else None
        return None if value is None or math.isnan(value) else float(value)


class NewestAndBest:
    """The rule by which Orbax deletes checkpoints: all but the `keep` newest and the best."""

    def __init__(self, keep: int, best: BestStep):
        self._keep, self._best = keep, best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns for every checkpoint, oldest first, whether it stays."""
        del context
        newest = len(checkpoints) - self._keep
        return [i >= newest or info.step == self._best.step for i, info in enumerate(checkpoints)]


def check_measured(keep_best: KeepBest | None, measured: Sequence[str], hint: str) -> None:
    """Refuses a metric that the run never measures, before it starts.

    Args:
      keep_best: the settings, or None.
      measured: names of what the run measures on held-out data.
      hint: how to have more measured.

    Raises:
      UserError: if the metric is none of them.
    """
    if keep_best is not None and keep_best.metric not in ("", *measured):
        raise UserError(
            f"keep_best.metric={keep_best.metric} is not measured by this run (measured on held-out data: "
            f"{', '.join(measured) or 'nothing'}); {hint}"
        )
