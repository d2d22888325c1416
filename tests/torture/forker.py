"""Runs experiments as fast as they can be started: imports everything once, then forks for each.

Reads lines of JSON, [arguments of phi4r.main, file for its output]; answers each with the process id, and with the exit
code when it has ended (negative: the signal that killed it). No device is touched before the fork, so the child starts
JAX for itself, as a process of its own would.
"""

import importlib
import json
import os
import sys

from absl import app

from phi4r import main

# What a run imports when it comes to it; tensorboardX alone takes two seconds where PyTorch is installed.
for module in (
    "phi4r.train.sft",
    "phi4r.rl.train",
    "phi4r.evals.puzzles.chains",
    "tensorboardX",
    "sentencepiece",
    "configs",
):
    importlib.import_module(module)


def run(argv: list[str], output: str) -> None:
    """Becomes `python -m phi4r.main ARGV > OUTPUT 2>&1`."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["phi4r", *argv]
    app.run(main.run_main, flags_parser=main.parse_flags)


for line in sys.stdin:
    child = os.fork()
    if not child:
        run(*json.loads(line))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
