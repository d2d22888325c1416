"""Programs judged by tests: LiveCodeBench (arXiv 2403.07974) and contests.

A program is right if it passes all tests, each within its limits. It runs in the sandbox, sees inputs only, and its
outputs are compared here. A test's time is measured from outside too, and has room for the start of the interpreter.
"""

import dataclasses
import functools
import json
import pathlib
from typing import ClassVar, Literal

from phi4r.errors import UserError
from phi4r.verifiers.code.blocks import answered_program
from phi4r.verifiers.code.comparing import same_output, same_value
from phi4r.verifiers.code.program_tests import ProgramTests
from phi4r.verifiers.code.sandbox import Finished, Limits, run_python
from phi4r.verifiers.verdict import Verdict, failed, judged, unanswered

_START_S = 1.0  # for the interpreter, on a busy machine
_SPARE_BYTES = 1 << 20  # of output, beyond what is right
_DRIVER = pathlib.Path(__file__).with_name("solution_driver.py")


@dataclasses.dataclass(frozen=True)
class LiveCodeBenchVerifier:
    """Judges the last Python block of a response; the reference is that of `ProgramTests`.

    The verdict's part "tests" is the share of tests that were passed before the first one that was not.

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
      unprotected: whether to run programs where the machine has no namespaces to confine them.
    """

    thinking: bool = False
    unprotected: bool = False

    limits_itself: ClassVar[Literal[True]] = True

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict, after at most as many seconds as all tests may take.

        Raises:
          UserError: if programs cannot be confined on this machine, and `unprotected` is not set.
        """
        source = answered_program(response, thinking=self.thinking)
        if source is None:
            return unanswered()
        try:
            tests = ProgramTests.from_reference(reference)
        except UserError:
            return failed("error", source)
        try:
            num_passed = count_passed(source, tests, unprotected=self.unprotected)
        except OSError:  # no process, no memory or no descriptor was left for a sandbox
            return failed("error", source)
        total = len(tests.inputs)
        return judged(source, num_passed == total, parts={"tests": num_passed / total})


def count_passed(source: str, tests: ProgramTests, *, unprotected: bool = False) -> int:
    """Returns how many tests a program passes before the first that it does not.

    Args:
      source: of the program: any text.
      tests: what it is tried on, in order.
      unprotected: whether to run it where the machine has no namespaces to confine it.

    Raises:
      UserError: if it cannot be confined on this machine, and `unprotected` is not set.
      OSError: if a sandbox could not be opened this time.
    """
    count = _programs_passed if tests.func_name is None else _calls_passed
    return count(source, tests, unprotected)


def _programs_passed(source: str, tests: ProgramTests, unprotected: bool) -> int:
    """Runs a whole program once for each test."""
    for index, (given, expected) in enumerate(zip(tests.inputs, tests.outputs, strict=True)):
        finished = _run("run_program", source, given, tests, unprotected)
        written = finished.stdout.decode(errors="replace")
        if finished.status != "ok" or not same_output(expected, written):
            return index
    return len(tests.inputs)


def _calls_passed(source: str, tests: ProgramTests, unprotected: bool) -> int:
    """Calls a function with one test after the other, in as few processes as the time limit allows.

    A process may take as long as ONE test may, and all tests that it reports in that time have kept the limit: nothing
    that runs inside is trusted with the clock. Where it is killed, or dies, the next one goes on with the first test
    that is not reported; a test that is not reported by a process of its own is failed.
    """
    num_passed, total = 0, len(tests.inputs)
    while num_passed < total:
        rest = range(num_passed, total)
        requests = [tests.func_name, *map(tests.arguments, rest)]
        finished = _run("call_function", source, "\n".join(map(json.dumps, requests)), tests, unprotected)
        reports = finished.stdout.split(b"\n")[:-1]  # a piece of a line is no report
        for index, report in zip(rest, reports, strict=False):
            if not same_value(tests.result(index), report):
                return num_passed
            num_passed += 1
        if not reports:
            break
    return num_passed


def _run(mode: str, source: str, stdin: str, tests: ProgramTests, unprotected: bool) -> Finished:
    """Runs a solution by a function of the driver, under the limits of one test."""
    wall_s = tests.seconds + _START_S
    limits = Limits(
        wall_s=wall_s,
        cpu_s=wall_s + 1.0,
        memory_bytes=tests.memory_mb << 20,
        output_bytes=_SPARE_BYTES + 8 * max(map(len, tests.outputs)),
    )
    return run_python(
        f"{_driver()}\n\n{mode}()\n",
        stdin=stdin.encode(errors="replace"),
        limits=limits,
        unprotected=unprotected,
        files={"solution.py": source.encode(errors="replace")},
    )


@functools.cache
def _driver() -> str:
    return _DRIVER.read_text(encoding="utf-8")
