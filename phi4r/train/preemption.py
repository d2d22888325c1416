"""What a run does when its machine is taken away: it finishes the step, saves, and exits with a code of its own."""

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, try again


class Preempted(Exception):
    """A run that was told to stop has saved its state; `phi4r.main` exits with `EXIT_PREEMPTED`."""

    def __init__(self, step: int):
        super().__init__(f"told to stop (SIGTERM): saved after step {step}; the same command again goes on from there.")
        self.step = step


class PreemptionNotice:
    """Listens for SIGTERM, which schedulers send some time before they kill; a context manager around a loop.

    On one host a second SIGTERM does what it did before the loop. On several hosts JAX's own service has listened
    since the hosts were joined: a notice to any of them is passed on, and all stop after the same step.
    """

    def __init__(self) -> None:
        self._told = False
        self._before: Any = None

    def received(self, step: int) -> bool:
        """Whether to save and stop after this step; all hosts ask after every step, and get the same answer."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._told

    def __enter__(self) -> "PreemptionNotice":
        # Elsewhere than in the main thread Python allows no handlers: a notebook's thread is stopped by its user.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *exc: Any) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._told = True
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None
