"""Compiles the programs of an experiment, each in a process of its own."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from phi4r.errors import UserError
from phi4r.planning.devices import compiler_environment, require_compiler
from phi4r.planning.experiment import Experiment
from phi4r.planning.topologies import Topology

WORKER = ["-m", "phi4r.planning.worker"]
# (program, what is being done, seconds since the start), called every second.
Watcher = Callable[[str, str, float], None]


def program_names(experiment: Experiment, topology: Topology, folder: pathlib.Path) -> list[str]:
    """Returns the programs of an experiment, after its sizes were checked; nothing is compiled.

    Raises:
      UserError: for a mesh or a batch that does not divide, or a compiler that is not installed.
    """
    return _ask(experiment, topology, None, folder, None)


def compile_program(
    experiment: Experiment, topology: Topology, program: str, folder: pathlib.Path, watch: Watcher | None = None
) -> dict[str, Any]:
    """Returns what `phi4r.planning.worker.plan_program` says about a program, from the cache or the compiler.

    Args:
      experiment: what is planned.
      topology: what it is planned for.
      program: its name.
      folder: of the cache.
      watch: told of progress.

    Raises:
      UserError: for an unknown program, sizes that do not fit, or a compiler that crashes.
    """
    return _ask(experiment, topology, program, folder, watch)


def _ask(
    experiment: Experiment, topology: Topology, program: str | None, folder: pathlib.Path, watch: Watcher | None
) -> Any:
    """Sends one request to a worker and returns the answer."""
    require_compiler(topology)
    with tempfile.TemporaryDirectory(prefix="phi4r-plan-") as temporary:
        dump = pathlib.Path(temporary) / "dump"
        request = {
            "sections": experiment.sections,
            "topology": topology.name,
            "program": program,
            "folder": str(folder),
            "dump": str(dump),
        }
        environment = {**os.environ, **compiler_environment(topology)}
        environment["XLA_FLAGS"] += f" --xla_dump_to={dump} --xla_dump_hlo_as_text"
        with open(pathlib.Path(temporary) / "stderr", "w+") as stderr:
            worker = subprocess.Popen(
                [sys.executable, *WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                text=True,
            )
            try:
                answer = _converse(worker, request, program or "sizes", watch)
            finally:
                worker.kill()
                worker.wait()
            if "error" in answer:
                raise UserError(answer["error"])
            if "result" in answer:
                return answer["result"]
            stderr.seek(0)
            raise UserError(_why_it_died(worker.returncode, stderr.read(), program, topology))


def _converse(worker: subprocess.Popen, request: dict[str, Any], program: str, watch: Watcher | None) -> dict[str, Any]:
    """Returns the last message of a worker, {} if it ends without one; tells `watch` about the others."""
    started, answer, stage = time.monotonic(), {}, "starting"
    done = threading.Event()

    def tick() -> None:
        while watch is not None and not done.wait(1.0):
            watch(program, stage, time.monotonic() - started)

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        json.dump(request, worker.stdin)
        worker.stdin.close()
        for line in worker.stdout:
            message = json.loads(line)
            stage = message.get("stage", stage)
            answer = message if "stage" not in message else answer
        worker.wait()
    except BrokenPipeError:
        worker.wait()
    finally:
        done.set()
        ticker.join()
    return answer


def _why_it_died(code: int, stderr: str, program: str | None, topology: Topology) -> str:
    """Returns one line about a worker that ended without an answer."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    last = lines[-1][:300] if lines else "no message"
    what = f"{program or 'the experiment'} for {topology.name}"
    if code == -9:
        return f"compiling {what} was killed, most likely for want of memory on this machine; try a larger one."
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"the compiler of {what} stopped with {how}: {last}"
