"""The book-keeping of a training loop, kept out of its way: metrics, progress, speed, and what guards look at."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from phi4r.metrics.progress import Progress
from phi4r.metrics.throughput import CompileCounter, Throughput, peak_memory_gib
from phi4r.metrics.writer import MetricWriter
from phi4r.model.config import ModelConfig
from phi4r.model.inputs import segment_positions
from phi4r.train.guards import Guards
from phi4r.train.step import Metrics


class StepLog:
    """Reads the metrics of a step while the next one runs, so that the device never waits for the host.

    The guards look at every step; one in `log_every`, and the last, is written.

    Attributes:
      written: the metrics written last.
    """

    def __init__(
        self,
        writer: MetricWriter,
        progress: Progress,
        compiles: CompileCounter,
        guards: Guards,
        *,
        log_every: int,
        num_steps: int,
    ) -> None:
        """Starts the clock.

        Args:
          writer: where every `log_every`-th step goes.
          progress: shown after every step.
          compiles: open counter, for `compiles`: programs compiled since the last line.
          guards: may stop the run.
          log_every: steps between two lines.
          num_steps: the last step, which is always written.
        """
        self._writer, self._progress, self._compiles, self._guards = writer, progress, compiles, guards
        self._log_every, self._num_steps = log_every, num_steps
        self._throughput = Throughput(jax.devices())
        self._rates: dict[str, float] = {}
        self._pending: tuple[int, Metrics, Any, dict[str, float], dict[str, float]] | None = None
        self.written: dict[str, float] = {}

    def add(
        self,
        step: int,
        metrics: Metrics,
        batch: Any,
        *,
        num_tokens: int,
        flops: float,
        extra: Mapping[str, float] | None = None,
    ) -> None:
        """Takes the metrics of a step that was just dispatched, and reads those of the step before.

        Args:
          step: number of the update, from 1.
          metrics: from the update function, still on the device.
          batch: what the step was trained on; held until its metrics are read.
          num_tokens: tokens of the global batch, padding left out.
          flops: model FLOPs of the step (`ModelConfig.train_flops`).
          extra: more numbers for the same line, as those of a rollout.

        Raises:
          UserError: if the guards stop the run at the step before.
        """
        self.flush()
        self._pending = (step, metrics, batch, {"num_tokens": num_tokens, "flops": flops}, dict(extra or {}))

    def flush(self) -> None:
        """Waits for the last step and reads its metrics: before saving and evaluating, and at the end.

        Raises:
          UserError: if the guards stop the run at that step.
        """
        if self._pending is None:
            return
        step, metrics, batch, work, extra = self._pending
        self._pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()} | extra
        values |= self._guards.check(step, values, batch)
        self._throughput.add(**work)
        if step % self._log_every == 0 or step == self._num_steps:
            self._write(step, {**values, "num_tokens": work["num_tokens"]})
        shown = {name: rate for name, rate in self._rates.items() if name != "step_s"}
        self._progress.update(step, loss=values["loss"], **shown)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes other numbers, as those of an evaluation, on a line of their own."""
        self._writer.write(step, metrics)

    def restart(self) -> None:
        """Leaves what was done since `flush` (evaluation, saving) out of throughput and compilations."""
        self._throughput.restart()
        self._compiles.count = 0

    def _write(self, step: int, values: dict[str, float]) -> None:
        self._rates = self._throughput.read()
        memory = peak_memory_gib(jax.local_devices())
        self.written = {
            **values,
            **self._rates,
            "compiles": self._compiles.count,
            **({} if memory is None else {"peak_memory_gib": memory}),
        }
        self._compiles.count = 0
        self._writer.write(step, self.written)


def step_work(segment_ids: np.ndarray, config: ModelConfig, *, num_hosts: int = 1) -> dict[str, float]:
    """Returns the real tokens of a step, padding left out, and its model FLOPs, for `StepLog.add`.

    A token at place n of its segment attends to n tokens, itself included: the pairs that the causal mask admits.

    Args:
      segment_ids: [B T] of the rows of this host.
      config: the shape of the model.
      num_hosts: hosts with as many rows each; the numbers are this one's times that.
    """
    real = segment_ids > 0
    num_tokens = int(real.sum()) * num_hosts
    attended = int((segment_positions(segment_ids) + 1)[real].sum(dtype=np.int64)) * num_hosts
    return {"num_tokens": num_tokens, "flops": config.train_flops(num_tokens, attended)}
