"""A competitor that needs an interpreter of its own, because what it wants installed is not what this project wants.

The other side is a script without a word of this package. It is started once, loads and compiles, and then waits: it
reads a line of JSON from its standard input, does the work, and answers with a line of JSON on its standard output.
While it waits it uses no core, so the turns of both sides can be interleaved as in one process.
"""

import contextlib
import json
import pathlib
import subprocess
from collections.abc import Mapping
from typing import Any

from phi4r.errors import UserError


class Peer:
    """A running script; use it as a context manager, and call it for a turn."""

    def __init__(self, python: pathlib.Path, script: pathlib.Path, settings: Mapping[str, Any]):
        """Starts the script.

        Args:
          python: the interpreter that has the competitor's packages.
          script: what it runs.
          settings: given to the script as its one argument, in JSON.

        Raises:
          UserError: where there is no such interpreter.
        """
        if not python.is_file():
            raise UserError(f"there is no interpreter {python}; make one with the packages that {script.name} names.")
        self._name = script.name
        self._process = subprocess.Popen(
            [python, script, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *unused) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # the script's loop over its standard input ends
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __call__(self, request: Any = None) -> Any:
        """Gives the script a turn and returns its answer.

        Raises:
          UserError: if the script has ended.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise UserError(f"{self._name} has ended before it answered; what it said is above.")
        return json.loads(answer)
