"""What watches over the steps of a run: skips that pile up, losses that jump, numbers out of their healthy range.

The update function leaves the state alone where a step is not finite (`phi4r.train.step`). Here such steps are counted,
and too many in a row stop the run, with the batch of the last one on disk. Everything else is a line on standard error.
Guards read the metrics that the step log reads anyway, a step late, so the device waits for nothing.
"""

import collections
import dataclasses
import pathlib
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from phi4r.errors import UserError
from phi4r.hosts import is_primary, to_host
from phi4r.sharding import context_shards, zigzag_order

SPIKE_WINDOW = 50  # losses that say what is usual
SPIKE_MINIMUM = 10  # fewer say nothing


@dataclasses.dataclass(frozen=True)
class GuardSettings:
    """When a run stops, and when it speaks up.

    Attributes:
      max_nonfinite_steps: so many steps in a row whose loss or gradient is not finite stop the run; fewer are skipped.
      spike_factor: a loss is called a spike where it lies above the median of the last 50 by more than this many times
        their median distance from it; 0 for never. For normal noise 10 is 6.7 standard deviations.
    """

    max_nonfinite_steps: int = 3
    spike_factor: float = 10.0

    def __post_init__(self):
        if self.max_nonfinite_steps < 1:
            raise UserError(f"guards.max_nonfinite_steps={self.max_nonfinite_steps} must be at least 1.")
        if self.spike_factor < 0:
            raise UserError(f"guards.spike_factor={self.spike_factor} must be positive, or 0 for no warning.")


@dataclasses.dataclass(frozen=True)
class Alert:
    """A healthy range of one metric, or of its course over some steps, and what to say outside it.

    Attributes:
      metric: its name; a step without it is healthy.
      unhealthy: whether a value is out of range; nan never is.
      advice: what it means and what to do; "{value}" stands for the value.
      window: steps that are looked at together; 1 for the last alone. With fewer steps nothing is said.
      summary: makes the one value of `unhealthy` and `advice` from those of the window, the oldest first.
      cause: names the likely cause from all metrics of the step, to be said after the advice; None says nothing more.
      stops: whether the run stops there.
    """

    metric: str
    unhealthy: Callable[[float], bool]
    advice: str
    window: int = 1
    summary: Callable[[Sequence[float]], float] = lambda values: values[-1]
    cause: Callable[[Mapping[str, float]], str] | None = None
    stops: bool = False

    @property
    def name(self) -> str:
        """Tells the alerts on one metric apart."""
        return self.metric if self.window == 1 else f"{self.metric} over {self.window} steps"


class Guards:
    """Watches the steps of one run, in order. What it remembers goes into checkpoints, so a resumed run is watched as
    an uninterrupted one."""

    def __init__(self, settings: GuardSettings, workdir: pathlib.Path, alerts: Sequence[Alert] = ()):
        """Remembers nothing yet.

        Args:
          settings: limits.
          workdir: of the run; the batch of a fatal step is saved there.
          alerts: healthy ranges; each is spoken of once a run.
        """
        self._settings, self._workdir, self._alerts = settings, workdir, alerts
        self._nonfinite = 0  # steps in a row
        self._skipped = self._spikes = 0  # steps of the run
        self._losses: collections.deque[float] = collections.deque(maxlen=SPIKE_WINDOW)
        self._told: set[str] = set()
        windows = {alert.metric: max(a.window for a in alerts if a.metric == alert.metric) for alert in alerts}
        self._recent = {metric: collections.deque(maxlen=window) for metric, window in windows.items()}

    def state(self) -> dict[str, Any]:
        """Returns the memory as JSON values."""
        return {
            "nonfinite": self._nonfinite,
            "skipped": self._skipped,
            "spikes": self._spikes,
            "losses": list(self._losses),
            "told": sorted(self._told),
            "recent": {metric: list(values) for metric, values in self._recent.items()},
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Takes over the memory of an earlier process."""
        self._nonfinite, self._skipped, self._spikes = state["nonfinite"], state["skipped"], state["spikes"]
        self._losses.extend(state["losses"])
        self._told.update(state["told"])
        for metric, values in self._recent.items():
            values.extend(state.get("recent", {}).get(metric, ()))

    def check(self, step: int, metrics: Mapping[str, float], batch: Any) -> dict[str, float]:
        """Looks at one step and returns `skipped` and `loss_spikes`: how many steps of the run there were of each.

        Args:
          step: number of the step.
          metrics: of the step, on the host.
          batch: what the step was trained on, on the mesh.

        Raises:
          UserError: if too many steps in a row were not finite, or an alert stops the run.
        """
        if metrics["finite"]:
            self._nonfinite = 0
            self._check_loss(step, metrics["loss"])
            self._check_ranges(step, metrics)
        else:
            self._nonfinite += 1
            self._skipped += 1
            self._skip(step, metrics, batch)
        return {"skipped": self._skipped, "loss_spikes": self._spikes}

    def _skip(self, step: int, metrics: Mapping[str, float], batch: Any) -> None:
        """Says that a step was skipped, or stops the run."""
        norms = f"gradient norm {metrics['grad_norm']:.4g}, parameter norm {metrics['param_norm']:.4g}"
        what = f"step {step} is not finite (loss {metrics['loss']:.4g}, {norms})"
        if self._nonfinite < self._settings.max_nonfinite_steps:
            _say(f"{what} and was skipped; parameters and optimizer are as they were.")
            return
        path = self._workdir / "nonfinite" / f"step{step:06d}.npz"
        save_batch(path, batch)
        raise UserError(
            f"{what}, and so were {self._nonfinite} in a row; none of them was applied. The batch of step {step} is in "
            f"{path}: look at it, and start again with a lower optimizer.learning_rate or optimizer.clip_norm."
        )

    def _check_loss(self, step: int, loss: float) -> None:
        """Compares a loss with the ones before it."""
        if self._settings.spike_factor and len(self._losses) >= SPIKE_MINIMUM:
            median = statistics.median(self._losses)
            distance = statistics.median(abs(other - median) for other in self._losses)
            if loss > median + self._settings.spike_factor * max(distance, 1e-3 * abs(median)):
                self._spikes += 1
                _say(
                    f"the loss of step {step} is {loss:.4g}, far above the {median:.4g} of late; if it does not come "
                    "down again, lower optimizer.learning_rate and look at the data of that step."
                )
        self._losses.append(loss)

    def _check_ranges(self, step: int, metrics: Mapping[str, float]) -> None:
        """Speaks of metrics out of their healthy range, of each once."""
        for metric, values in self._recent.items():
            if metric in metrics:
                values.append(metrics[metric])
        for alert in self._alerts:
            window = list(self._recent[alert.metric])[-alert.window :]
            if alert.metric not in metrics or alert.name in self._told or len(window) < alert.window:
                continue
            value = alert.summary(window)
            if alert.unhealthy(value):
                self._told.add(alert.name)
                text = f"step {step}: {alert.advice.format(value=value)}"
                text += f" {alert.cause(metrics)}" if alert.cause else ""
                if alert.stops:
                    raise UserError(text)
                _say(f"{text} (Said once a run.)")


def save_batch(path: pathlib.Path, batch: Any) -> None:
    """Writes a batch on the mesh as whole arrays in one .npz, [B T] columns in the order of the row."""
    leaves = jax.tree_util.tree_flatten_with_path(to_host(batch))[0]
    if not is_primary():
        return
    arrays = {}
    for key, array in leaves:
        if array.ndim > 1:
            array = array[:, np.argsort(zigzag_order(array.shape[1], context_shards()))]
        arrays[jax.tree_util.keystr(key, simple=True, separator=".")] = array
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)


def _say(text: str) -> None:
    """Prints a warning on the first host, over the progress line, which is drawn again with the next step."""
    if is_primary():
        start = "\r\033[K" if sys.stderr.isatty() else ""
        print(f"{start}phi4r: {text}", file=sys.stderr, flush=True)
