"""What a run left about itself beside its rollouts: the metrics of every step, and the constants of its reward."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from phi4r.errors import UserError
from phi4r.metrics.writer import FILE_NAME, read_metrics
from phi4r.rl.records import FOLDER
from phi4r.rl.rewards import RewardSettings, length_scaled_accuracy
from phi4r.settings import build

CURVES = ("reward", "accuracy", "dev_accuracy", "length", "length_correct", "length_wrong", "clipped_share", "entropy")
MAX_POINTS = 400
NUM_LENGTHS = 121


def run_folder(folder: pathlib.Path) -> pathlib.Path:
    """Returns the workdir, given it or the folder of rollouts in it."""
    resolved = folder.resolve()
    return resolved.parent if resolved.name == FOLDER else resolved


def metric_curves(workdir: pathlib.Path) -> dict[str, list[float | None]] | None:
    """Returns the curves of Figure 7 by name, with `step`; None where the run has no metrics.

    A value that a step lacks is None. Long runs are thinned to keep the page small.
    """
    by_step: dict[int, dict[str, float]] = {}
    for row in read_metrics(workdir) if (workdir / FILE_NAME).is_file() else ():
        by_step.setdefault(int(row["step"]), {}).update(row)  # held-out problems have a line of their own
    if not by_step:
        return None
    stride = -(-len(by_step) // MAX_POINTS)
    rows = [row for place, row in enumerate(by_step.values()) if place % stride == 0 or "dev_accuracy" in row]
    present = [name for name in CURVES if any(name in row for row in rows)]
    return {name: [_finite(row.get(name)) for row in rows] for name in ("step", *present)}


def reward_settings(workdir: pathlib.Path) -> RewardSettings | None:
    """Returns the constants of the run's reward from its config.json; None where it tells nothing of them.

    A stage of the quickstart has its config in the folder above, under its own name. Settings that this version does
    not know are passed over: the page needs the constants of length and repetition alone.
    """
    config = _read_json(workdir / "config.json")
    above = _mapping(_read_json(workdir.parent / "config.json").get(workdir.name))
    known = {field.name for field in dataclasses.fields(RewardSettings)} - {"parts"}
    section = _mapping(config.get("reward") or above.get("reward"))
    values = {name: value for name, value in section.items() if name in known}
    try:
        return build(RewardSettings, values, where="config.reward") if values else None
    except UserError:
        return None


def reward_curve(settings: RewardSettings) -> dict[str, Any]:
    """Returns the accuracy reward of right and of wrong answers over their length (Figure 6), for the page."""
    lengths = np.unique(np.linspace(0, settings.max_length, NUM_LENGTHS).astype(np.int32))

    def curve(correct: bool, plain: float) -> list[float]:
        if not settings.length_aware:
            return [plain] * len(lengths)
        scaled = length_scaled_accuracy(np.full(lengths.shape, correct), lengths, settings)
        return np.round(np.asarray(scaled, np.float64), 4).tolist()

    return {
        "lengths": lengths.tolist(),
        "right": curve(True, settings.correct_short),
        "wrong": curve(False, settings.incorrect_short),
        "marks": [settings.negative_control_length, settings.positive_control_length, settings.max_length],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _read_json(path: pathlib.Path) -> Mapping[str, Any]:
    """Returns the object in the file; nothing where there is none that can be read."""
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
