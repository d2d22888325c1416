"""A function to write, the inputs that it is tried on, and what a right solution returns for them."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from phi4r.errors import UserError
from phi4r.verifiers.code.sandbox import Finished, Limits, run_python

_START_S = 2.0  # for the interpreter, on a busy machine
_CANONICAL_S = 300.0
_MIN_TEST_S = 4.0  # for one test
_MIN_TOTAL_S = 60.0  # for all tests of a task
_FACTOR = 4.0  # how much slower than the canonical solution an answer may be, if that is more
_SPARE_BYTES = 1 << 20  # of output, beyond twice what is right
_MAX_OUTPUT_BYTES = 1 << 28
_MEMORY_BYTES = 2 << 30
_DRIVER = pathlib.Path(__file__).with_name("function_driver.py")


@dataclasses.dataclass(frozen=True)
class FunctionTests:
    """A task of HumanEval+; as a reference, a JSON object of these fields.

    Attributes:
      prompt: head and docstring of the function, after its imports and helpers.
      entry_point: its name.
      canonical_solution: a body that is right.
      base_input: lists of arguments: the inputs of HumanEval.
      plus_input: those that HumanEval+ adds.
      atol: tolerance of numbers in the output.
    """

    prompt: str
    entry_point: str
    canonical_solution: str
    base_input: Sequence[Sequence[Any]]
    plus_input: Sequence[Sequence[Any]]
    atol: float = 0.0

    def __post_init__(self):
        for name in ("prompt", "entry_point", "canonical_solution"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise UserError(f"{name!r} must be text that is not empty.")
        if not self.entry_point.isidentifier():
            raise UserError(f"'entry_point' must be the name of a function, not {self.entry_point[:40]!r}.")
        for name in ("base_input", "plus_input"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple) or not all(isinstance(item, list | tuple) for item in value):
                raise UserError(f"{name!r} must be a list of lists of arguments.")
        if not self.base_input:
            raise UserError("'base_input' has no inputs; a task needs one at least.")
        number = isinstance(self.atol, int | float) and not isinstance(self.atol, bool)
        if not number or not 0 <= self.atol < math.inf:
            raise UserError("'atol' must be a number of at least 0.")

    @property
    def inputs(self) -> list[Sequence[Any]]:
        """All inputs, those of HumanEval first."""
        return [*self.base_input, *self.plus_input]

    def to_reference(self) -> str:
        """Returns the text that `from_reference` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_reference(cls, reference: str) -> "FunctionTests":
        """Reads a reference.

        Raises:
          UserError: if it is none.
        """
        try:
            return cls(**json.loads(reference))
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"a reference must be a JSON object with the fields of FunctionTests ({error}).") from error


class Expected(NamedTuple):
    """What the canonical solution does.

    Attributes:
      outputs: for each input, as the driver encodes them.
      seconds: that each call took.
      total_s: that all took, with the making of reports.
    """

    outputs: tuple[bytes, ...]
    seconds: tuple[float, ...]
    total_s: float


_lock = threading.Lock()
_known: dict[bytes, concurrent.futures.Future[Expected | None]] = {}


def expected_outputs(tests: FunctionTests, *, unprotected: bool = False) -> Expected | None:
    """Returns what the canonical solution computes, once in a process for each task; None if it does not run.

    Raises:
      UserError, OSError: as `run_python` does.
    """
    key = hashlib.sha256(tests.to_reference().encode(errors="surrogatepass")).digest()
    with _lock:
        future = _known.get(key)
        first = future is None
        if first:
            future = _known[key] = concurrent.futures.Future()
    if first:
        try:
            future.set_result(_run_canonical(tests, unprotected))
        except BaseException as error:
            with _lock:
                del _known[key]  # the next one tries again
            future.set_exception(error)
    return future.result()


def _run_canonical(tests: FunctionTests, unprotected: bool) -> Expected | None:
    seconds = [_CANONICAL_S] * len(tests.inputs)
    limits = Limits(_CANONICAL_S, _CANONICAL_S, _MEMORY_BYTES, _MAX_OUTPUT_BYTES)
    finished = _call(tests.prompt + tests.canonical_solution, tests, seconds, limits, unprotected)
    reports = _reports(finished)
    if len(reports) != len(tests.inputs):
        return None
    times, outputs = zip(*(report.split(b" ", 1) for report in reports), strict=True)
    return Expected(outputs, tuple(map(float, times)), finished.seconds)


def answer_outputs(source: str, tests: FunctionTests, expected: Expected, *, unprotected: bool = False) -> list[bytes]:
    """Returns what an answer reports for the inputs in order, up to the first that it fails on: any bytes.

    Each call may take 4 seconds, or 4 times what the canonical solution takes if that is more.

    Args:
      source: a module that defines the function, or its body; it may use the imports and helpers of the prompt.
      tests: what it is called with.
      expected: sets its limits.
      unprotected: whether to run it where the machine has no namespaces to confine it.

    Raises:
      UserError, OSError: as `run_python` does.
    """
    seconds = [max(_MIN_TEST_S, _FACTOR * time) for time in expected.seconds]
    wall_s = _START_S + max(_MIN_TOTAL_S, _FACTOR * expected.total_s)
    right_bytes = sum(map(len, expected.outputs)) + 12 * len(seconds)
    limits = Limits(wall_s, wall_s, _MEMORY_BYTES, _SPARE_BYTES + 2 * right_bytes)
    is_body = source.lstrip("\r\n")[:1] in (" ", "\t")
    finished = _call(tests.prompt + source if is_body else source, tests, seconds, limits, unprotected)
    return [report.partition(b" ")[2] for report in _reports(finished)]


def _call(source: str, tests: FunctionTests, seconds: Sequence[float], limits: Limits, unprotected: bool) -> Finished:
    """Calls the function of a module with all inputs, in one sandbox."""
    calls = {"entry_point": tests.entry_point, "seconds": list(seconds)}
    files = {
        "answer.py": source.encode(errors="surrogatepass"),
        "prompt.py": tests.prompt.encode(errors="surrogatepass"),
        "calls.json": json.dumps(calls).encode(),
        "inputs.jsonl": "\n".join(map(json.dumps, tests.inputs)).encode(),
    }
    return run_python(_driver(), limits=limits, unprotected=unprotected, files=files)


def _reports(finished: Finished) -> list[bytes]:
    """Returns the whole lines that the driver, or what took its place, wrote."""
    return finished.stdout.split(b"\n")[:-1]


@functools.cache
def _driver() -> str:
    return _DRIVER.read_text(encoding="utf-8")
