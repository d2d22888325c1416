"""The parent's end of one worker: start it, write and read with deadlines, kill it."""

import contextlib
import json
import os
import pathlib
import select
import subprocess
import sys
import time
import weakref
from typing import Any

import phi4r
from phi4r.errors import UserError
from phi4r.verifiers.specification import key_of

_MAX_REPLY_BYTES = 1 << 22
_LOAD_CPU_S = 600.0
_CPU_SLACK_S = 2.0  # the kernel's limit is a second line behind our deadline
_INHERITED = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "SYSTEMROOT")


class WorkerLate(Exception):
    """The worker has not answered in time."""


class WorkerDied(Exception):
    """The worker's pipes are closed: it crashed, or the kernel killed it."""


class WorkerProcess:
    """One interpreter that runs `phi4r.verifiers.worker`; used by one thread at a time."""

    def __init__(self, memory_bytes: int):
        """Starts the interpreter without waiting for it."""
        self._process = subprocess.Popen(
            [sys.executable, "-B", "-P", "-s", "-m", "phi4r.verifiers.worker", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # an interrupt at the keyboard is the parent's to handle
            bufsize=0,
        )
        self._input = self._process.stdin.fileno()
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        self._received = b""
        self._asked_to_load: set[str] = set()
        self._num_loading = 0
        self._finalizer = weakref.finalize(self, _end, self._process)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def begin_load(self, spec: dict[str, Any]) -> None:
        """Asks for a verifier to be loaded, once, and does not wait."""
        if key_of(spec) in self._asked_to_load:
            return
        self._asked_to_load.add(key_of(spec))
        self._num_loading += 1
        with contextlib.suppress(WorkerLate, WorkerDied):  # `finish_loads` reports a worker that does not start
            self._send({"load": spec, "cpu_s": _LOAD_CPU_S}, time.monotonic() + 10.0)

    def finish_loads(self, deadline_s: float) -> None:
        """Waits until everything asked for is loaded.

        Raises:
          UserError: if the worker did not start, or could not import or build the verifier.
        """
        deadline = time.monotonic() + deadline_s
        while self._num_loading:
            try:
                reply = self._receive(deadline)
            except (WorkerLate, WorkerDied) as error:
                raise UserError(
                    f"A verifier worker did not start ({type(error).__name__}); check that `{sys.executable} -m "
                    "phi4r.verifiers.worker` can run here and that memory_bytes is large enough."
                ) from error
            self._num_loading -= 1
            if "error" in reply:
                raise UserError(f"A verifier worker cannot load the verifier: {reply['error']}")

    def verify(self, spec: dict[str, Any], response: str, reference: str, deadline_s: float) -> dict[str, Any]:
        """Returns the reply to one response: the fields of a verdict, or {"error": ...}.

        Raises:
          WorkerLate: if there is none after `deadline_s`.
          WorkerDied: if there will be none.
        """
        deadline = time.monotonic() + deadline_s
        request = {"verify": key_of(spec), "response": response, "reference": reference}
        self._send({**request, "cpu_s": deadline_s + _CPU_SLACK_S}, deadline)
        return self._receive(deadline)

    def kill(self) -> None:
        """Ends the process at once."""
        self._finalizer()

    def _send(self, message: dict[str, Any], deadline: float) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            _wait(self._input, select.POLLOUT, deadline)
            try:
                data = data[os.write(self._input, data[:65536]) :]
            except BrokenPipeError as error:
                raise WorkerDied from error

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._received:
            _wait(self._output, select.POLLIN, deadline)
            chunk = os.read(self._output, 65536)
            if not chunk or len(self._received) > _MAX_REPLY_BYTES:
                raise WorkerDied
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    """Waits until a pipe is ready or closed; raises WorkerLate at the deadline (on `time.monotonic`)."""
    poll = select.poll()
    poll.register(descriptor, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise WorkerLate


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.stdin.close()
    process.stdout.close()
    process.wait()


def _environment() -> dict[str, str]:
    """Returns a small environment: the parent's import path, a fixed hash seed, and nothing secret."""
    package_root = str(pathlib.Path(phi4r.__file__).parent.parent)
    paths = [package_root, *(path or os.getcwd() for path in sys.path)]
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
