"""Functions judged by tests: HumanEval+ (arXiv 2305.01210).

A right answer returns what the canonical solution returns, for all inputs of HumanEval and those that HumanEval+ adds.
Both run in sandboxes of their own; what they return is compared here. Time limits and tolerances are those of EvalPlus.
"""

import dataclasses
from typing import ClassVar, Literal

from phi4r.errors import UserError
from phi4r.verifiers.code.blocks import answered_program
from phi4r.verifiers.code.function_tests import FunctionTests, answer_outputs, expected_outputs
from phi4r.verifiers.code.outputs import is_zero_of, same_report
from phi4r.verifiers.verdict import Verdict, failed, judged, unanswered

_FIND_ZERO = "find_zero"  # HumanEval/32: any zero of the polynomial is right


@dataclasses.dataclass(frozen=True)
class HumanEvalVerifier:
    """Judges the last Python block of a response; the reference is that of `FunctionTests`.

    The verdict's parts are "base" (1 if the tests of HumanEval pass) and "plus" (1 if all tests pass).

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
      unprotected: whether to run programs where the machine has no namespaces to confine them.
    """

    thinking: bool = False
    unprotected: bool = False

    limits_itself: ClassVar[Literal[True]] = True

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict, after about a minute at most.

        Raises:
          UserError: if programs cannot be confined on this machine, and `unprotected` is not set.
        """
        source = answered_program(response, thinking=self.thinking)
        if source is None:
            return unanswered()
        try:
            tests = FunctionTests.from_reference(reference)
        except UserError:
            return failed("error", source)
        try:
            num_passed = count_passed(source, tests, unprotected=self.unprotected)
        except OSError:  # no sandbox could be opened this time
            num_passed = None
        if num_passed is None:
            return failed("error", source)
        base, plus = num_passed >= len(tests.base_input), num_passed == len(tests.inputs)
        return judged(source, plus, parts={"base": float(base), "plus": float(plus)})


def count_passed(source: str, tests: FunctionTests, *, unprotected: bool = False) -> int | None:
    """Returns how many tests an answer passes before the first that it does not; None if the tests are broken.

    Raises:
      UserError, OSError: as `run_python` does.
    """
    expected = expected_outputs(tests, unprotected=unprotected)
    if expected is None:
        return None
    reports = answer_outputs(source, tests, expected, unprotected=unprotected)
    num_passed = 0
    for arguments, right, report in zip(tests.inputs, expected.outputs, reports, strict=False):
        if tests.entry_point == _FIND_ZERO:
            passed = is_zero_of(arguments[0], report, atol=tests.atol)
        else:
            passed = same_report(right, report, atol=tests.atol)
        if not passed:
            break
        num_passed += 1
    return num_passed
