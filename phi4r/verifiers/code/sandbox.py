"""Runs programs that nobody trusts: one call, one program, one fresh sandbox.

A program runs as nobody in user, network, pid, mount, IPC and host-name namespaces of its own. It sees no network, no
process but its own, no environment, and of the files those that Python needs, read-only; it writes into a folder in
memory that goes away with it. Limits of the kernel hold for each process; the launcher (`launcher/`) adds up the memory
of all, and this process holds the clock and counts the output. At the end of a call no process of the program is left.

    finished = run_python("print(sum(map(int, input().split())))", stdin=b"1 2")
    finished.status, finished.stdout  # "ok", b"3\n"

What comes back are bytes that the program chose. Whoever reads them must parse them as such, and must not let the
program see what it is compared with.
"""

import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Literal

from phi4r.errors import UserError

_LAUNCHER = pathlib.Path(__file__).with_name("launcher")
_START_S = 30.0  # for the walls to go up on a busy machine
_SPARE_FILES = 16  # of `Limits.file_bytes` each, in the box
_CHUNK = 1 << 16
_MAX_STATUS_BYTES = 1 << 16
_SIGXCPU, _SIGKILL = -signal.SIGXCPU, -signal.SIGKILL  # as exit codes


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
      wall_s: seconds from the start of its interpreter.
      cpu_s: seconds of processor time, for each process; rounded up.
      memory_bytes: address space of each process, and memory of all of them together.
      output_bytes: on standard output, and again on standard error.
      file_bytes: length of a file; its box has room for 16 of these beside the files it is given.
      processes: at a time, threads included.
    """

    wall_s: float = 10.0
    cpu_s: float = 10.0
    memory_bytes: int = 1 << 30
    output_bytes: int = 1 << 20
    file_bytes: int = 1 << 20
    processes: int = 16


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a program ended, and what it wrote.

    Attributes:
      status: "ok" (it ended with exit code 0), "crashed" (with another, or by a signal), "timeout" (wall clock or
        processor time), "memory" (its processes held too much, or it ended with a MemoryError) or "output_limit".
      stdout: what it wrote, up to `Limits.output_bytes`, also if it was stopped.
      stderr: the same of standard error.
      exit_code: minus the number of the signal that ended it; None if it was stopped from outside.
      seconds: of wall clock, from the start of its interpreter.
    """

    status: Literal["ok", "crashed", "timeout", "memory", "output_limit"]
    stdout: bytes
    stderr: bytes
    exit_code: int | None
    seconds: float


def run_python(
    program: str,
    *,
    stdin: bytes = b"",
    limits: Limits = Limits(),
    unprotected: bool = False,
    files: Mapping[str, bytes] = {},
) -> Finished:
    """Runs a program in a sandbox of its own and waits for it. Any thread may call this.

    Args:
      program: Python source: any text. It runs as `program.py`, with the standard library alone.
      stdin: what it reads.
      limits: what it may use.
      unprotected: whether to run it without namespaces where they cannot be had. It then runs with the rights of this
        process: it can read and write whatever this process can, and may leave processes behind.
      files: plain name -> content, for its working directory.

    Raises:
      UserError: if this machine has no namespaces and `unprotected` is not set.
      OSError: if the sandbox could not be opened this time (no memory, no processes left).
    """
    reason = sandbox_available()
    if reason and not unprotected:
        raise UserError(
            f"programs of models run in a sandbox only, and there is none on this machine: {reason}; allow "
            "unprivileged user namespaces, use another machine, or set unprotected=True if you trust every program."
        )
    return _run(program, stdin, limits, files, protected=reason is None)


@functools.cache
def sandbox_available() -> str | None:
    """Returns None if programs can be confined on this machine, else one line that says why not; tries it once."""
    if sys.platform != "linux":
        return f"namespaces are a feature of Linux, and this is {sys.platform}"
    try:
        finished = _run("print('inside')", b"", Limits(), {}, protected=True)
    except OSError as error:
        return str(error)
    if finished.stdout != b"inside\n":
        last_line = (finished.stderr.decode(errors="replace").splitlines() or ["no message"])[-1]
        return f"Python does not run in a sandbox here ({finished.status}: {last_line[:200]})"
    return None


def _run(program: str, stdin: bytes, limits: Limits, files: Mapping[str, bytes], *, protected: bool) -> Finished:
    with tempfile.TemporaryDirectory(prefix="phi4r-sandbox-", ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        contents = {**files, "program.py": program.encode(errors="surrogatepass")}
        _fill(folder, contents, stdin, limits, protected)
        status_read, status_write = os.pipe()
        try:
            process = subprocess.Popen(
                [_python(), "-I", "-S", "-B", str(_LAUNCHER), name, str(status_write)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={},
                cwd=name,
                pass_fds=(status_write,),
                start_new_session=True,  # a group of its own, which is killed as one
                bufsize=0,
            )
        except OSError:
            os.close(status_read)
            raise
        finally:
            os.close(status_write)
        with process, os.fdopen(status_read, "rb", buffering=0) as status:
            watch = _Watch(process, status.fileno(), limits)
            try:
                stopped = watch.wait()
            finally:
                _kill_group(process)
            return watch.finished(stopped)


def _fill(folder: pathlib.Path, contents: Mapping[str, bytes], stdin: bytes, limits: Limits, protected: bool) -> None:
    """Writes what the launcher reads."""
    box = folder / "box"
    box.mkdir()
    (folder / "root").mkdir()
    (folder / "stdin").write_bytes(stdin)
    for name, content in contents.items():
        if name != os.path.basename(name) or name in ("", ".", ".."):
            raise ValueError(f"{name!r} is not a plain file name")
        (box / name).write_bytes(content)
    settings: dict[str, Any] = {
        **dataclasses.asdict(limits),
        "protected": protected,
        "parent": os.getpid(),
        "python": _python(),
        "visible": [sys.base_prefix, sys.base_exec_prefix, _python()],
        "box_bytes": sum(map(len, contents.values())) + _SPARE_FILES * limits.file_bytes + (1 << 20),
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")


@functools.cache
def _python() -> str:
    """Returns the interpreter itself, not the link to it in a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _kill_group(process: subprocess.Popen) -> None:
    """Kills the launcher and init; the kernel then kills all that init has let live."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # not yet waited for, so the number is still its own
    process.wait()


class _Watch:
    """Reads what a running program writes, and says when to stop it."""

    def __init__(self, process: subprocess.Popen, status: int, limits: Limits):
        self._limits = limits
        self._status = status
        self._outputs = (process.stdout.fileno(), process.stderr.fileno())
        self._received = {status: bytearray(), **{output: bytearray() for output in self._outputs}}
        self._started: float | None = None
        self._ended = 0.0
        for descriptor in self._received:
            os.set_blocking(descriptor, False)

    def wait(self) -> Literal["timeout", "output_limit"] | None:
        """Returns when the program has ended (None) or has to be stopped."""
        deadline = time.monotonic() + _START_S
        with selectors.DefaultSelector() as selector:
            for descriptor in self._received:
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                self._ended = time.monotonic()
                if self._ended > deadline:
                    return "timeout"
                for key, _ in selector.select(deadline - self._ended):
                    if not self._read(key.fd):
                        selector.unregister(key.fd)
                if any(len(self._received[output]) > self._limits.output_bytes for output in self._outputs):
                    return "output_limit"
                if self._started is None and b'"started"' in self._received[self._status]:
                    self._started = time.monotonic()
                    deadline = self._started + self._limits.wall_s
                if self._status not in selector.get_map():
                    self._ended = time.monotonic()
                    return self._drain()

    def finished(self, stopped: Literal["timeout", "output_limit"] | None) -> Finished:
        """Returns the end of a program that has ended or was stopped.

        Raises:
          OSError: if it was never started.
        """
        message: dict[str, Any] = {}
        for line in bytes(self._received[self._status]).splitlines():
            message |= json.loads(line)
        stdout, stderr = (bytes(self._received[output][: self._limits.output_bytes]) for output in self._outputs)
        if self._started is None or "failed" in message:
            words = stderr.decode(errors="replace").strip().splitlines()
            raise OSError(message.get("failed") or (words[-1] if words else "the sandbox did not open in time"))
        status = stopped or self._judge(message, stderr)
        exit_code = None if stopped else message.get("exit")
        return Finished(status, stdout, stderr, exit_code, self._ended - self._started)

    def _judge(
        self, message: Mapping[str, Any], stderr: bytes
    ) -> Literal["ok", "crashed", "timeout", "memory", "output_limit"]:
        """Returns how a program ended that was not stopped here."""
        if "memory" in message:
            return "memory"
        exit_code = message.get("exit")
        if exit_code == 0:
            return "ok"
        out_of_time = exit_code == _SIGKILL and message["cpu_s"] >= self._limits.cpu_s
        if exit_code == _SIGXCPU or out_of_time:
            return "timeout"
        out_of_memory = stderr.rstrip().rpartition(b"\n")[2].startswith(b"MemoryError")
        return "memory" if out_of_memory else "crashed"

    def _read(self, descriptor: int) -> bool:
        """Reads what there is, within limits; returns whether there may be more."""
        received = self._received[descriptor]
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return True
        if descriptor != self._status or len(received) < _MAX_STATUS_BYTES:
            received += chunk
        return bool(chunk)

    def _drain(self) -> Literal["output_limit"] | None:
        """Reads what is left in the pipes; a program that is gone writes no more."""
        for output in self._outputs:
            received = self._received[output]
            while len(received) <= self._limits.output_bytes:
                before = len(received)
                if not self._read(output) or len(received) == before:
                    break
            else:
                return "output_limit"
        return None
