r"""The process in which a pool runs verifiers: `python -m phi4r.verifiers.worker MEMORY_BYTES`.

A fresh interpreter that never imports jax. It reads one JSON object a line and answers each with one:

    {"load": {"type": "module:QualName", "fields": {...}}, "cpu_s": 60}             -> {"loaded": true}
    {"verify": "module:QualName {...}", "response": ..., "reference": ..., "cpu_s": 6}  -> the fields of a Verdict

or with {"error": "..."}. Nothing is pickled in either direction. What a verifier prints goes nowhere. The process
ends with its standard input, that is, with its parent.
"""

import dataclasses
import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

from phi4r.verifiers.specification import key_of, rebuild
from phi4r.verifiers.verdict import Verifier


def serve(read_line: Callable[[], bytes], write: Callable[[bytes], None]) -> None:
    """Answers requests until there are no more."""
    loaded: dict[str, Verifier] = {}
    while line := read_line():
        request = json.loads(line)
        limit_cpu(request["cpu_s"])
        try:
            if "load" in request:
                loaded[key_of(request["load"])] = rebuild(request["load"])
                reply: dict[str, Any] = {"loaded": True}
            else:
                verdict = loaded[request["verify"]](request["response"], request["reference"])
                reply = dataclasses.asdict(verdict)
        except Exception as error:  # whatever a verifier raises becomes an error that the pool counts
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        write(json.dumps(reply).encode() + b"\n")


def limit_process(memory_bytes: int) -> None:
    """Limits the address space, and forbids core dumps and writing to files."""
    for what, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        try:
            resource.setrlimit(what, (limit, limit))
        except (OSError, ValueError):  # not every system has every limit; the deadline holds on all of them
            continue


def limit_cpu(seconds: float) -> None:
    """Lets this process use so many more seconds of CPU: it dies even if its parent is gone."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or allowed < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, hard))


def main() -> None:
    """Keeps the pipes for itself, points the standard streams at nothing, limits itself, and serves."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    limit_process(int(sys.argv[1]))
    serve(requests.readline, replies.write)


if __name__ == "__main__":
    main()
