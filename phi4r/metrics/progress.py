"""One line that says how far a stage is: name, step, key numbers, rate and time left."""

import shutil
import sys
import time
from typing import TextIO

TERMINAL_INTERVAL_S = 0.1
LOG_INTERVAL_S = 10.0


class Progress:
    """Shows the progress of a stage on standard error.

    On a terminal one line is redrawn in place. Elsewhere a plain line is printed at most every ten seconds, and one at
    the end, so that logs stay readable. The rate leaves out the time before the first update (compilation).

        with Progress("SFT", total=16_000) as progress:
            for step in range(1, 16_001):
                ...
                progress.update(step, loss=loss)

        SFT 412/16000 loss 1.234 | 0.21/s | ETA 20h37m
    """

    def __init__(self, stage: str, *, total: int | None, stream: TextIO | None = None) -> None:
        """Starts the clock.

        Args:
          stage: the word at the start of the line.
          total: the step that ends the stage; None where nobody knows, and then no time is left to tell.
          stream: where to write; standard error by default.
        """
        self._stage, self._total = stage, total
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._first: tuple[float, int] | None = None  # time and step of the first update
        self._shown_at = time.monotonic() if not self._terminal else float("-inf")
        self._line = ""
        self._pending = False

    def update(self, step: int, **metrics: float) -> None:
        """Says that `step` steps are done; `metrics` are shown in the order given and may change between calls."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, step)
        self._line = self._render(now, step, metrics)
        self._pending = True
        if now - self._shown_at >= (TERMINAL_INTERVAL_S if self._terminal else LOG_INTERVAL_S):
            self._show(now)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exc) -> None:
        if self._pending:
            self._show(time.monotonic())
        if self._terminal and self._line:
            self._stream.write("\n")
            self._stream.flush()

    def _render(self, now: float, step: int, metrics: dict[str, float]) -> str:
        numbers = "".join(f" {name} {_number(value)}" for name, value in metrics.items())
        started, first_step = self._first
        steps, seconds = step - first_step, now - started
        line = f"{self._stage} {step}{'' if self._total is None else f'/{self._total}'}{numbers}"
        if not steps or not seconds:
            return line
        rate = steps / seconds
        left = "" if self._total is None else f" | ETA {duration(max(self._total - step, 0) / rate)}"
        return f"{line} | {rate:.3g}/s{left}"

    def _show(self, now: float) -> None:
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write("\r\033[K" + self._line[:width])
        else:
            self._stream.write(self._line + "\n")
        self._stream.flush()
        self._shown_at, self._pending = now, False


def _number(value: float) -> str:
    """Returns four digits of a small number and all digits of a large one: 1.235, 104,858."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Returns a time in its two largest units: 41s, 3m05s, 2h07m, 2d12h."""
    whole = round(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d{h:02d}h"
    if hours:
        return f"{h}h{m:02d}m"
    return f"{m}m{s:02d}s" if minutes else f"{s}s"
