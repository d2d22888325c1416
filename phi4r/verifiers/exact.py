"""The integer verifier: AIME, and procedural tasks whose answers are whole numbers."""

from dataclasses import dataclass

from phi4r.verifiers.algebra.exact_numbers import exact_number
from phi4r.verifiers.algebra.normal_form import normal_form
from phi4r.verifiers.algebra.screen import refusal
from phi4r.verifiers.answers import final_answer
from phi4r.verifiers.verdict import Verdict, failed, judged, unanswered


@dataclass(frozen=True)
class IntegerVerifier:
    """Judges a whole-number answer by its value: `033` and `33.0` answer 33, a list does not.

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
      max_digits: how long the answer may be; 3 is AIME's 0 to 999.
    """

    thinking: bool = False
    max_digits: int = 18

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict, in microseconds; a reference that is no integer is an "error"."""
        answer = final_answer(response, thinking=self.thinking)
        if answer is None:
            return unanswered()
        expected = integer_answer(reference, max_digits=self.max_digits)
        if expected is None:
            return failed("error", answer)
        return judged(answer, integer_answer(answer, max_digits=self.max_digits) == expected)

    def quick(self, response: str, reference: str) -> Verdict:
        """Returns the verdict: every one is cheap."""
        return self(response, reference)

    def warm_up(self) -> None:
        """Has nothing to load."""


def integer_answer(answer: str, *, max_digits: int = 3) -> int | None:
    r"""Reads an answer as an integer, as AIME asks for (0 to 999), or returns None.

    Dollar signs, thin spaces, grouping commas, units and degrees are dropped, leading zeros and a fraction of zeros
    (`204.0`) are allowed, and of an equation the right side counts. A list of numbers is not an integer.

    Args:
      answer: a final answer as written.
      max_digits: how many digits after the leading zeros are allowed.
    """
    if refusal(answer):
        return None
    number = exact_number(normal_form(answer.rpartition("=")[2]))
    if number is None or number.percent or number.value.denominator != 1:
        return None
    return int(number.value) if abs(number.value) < 10**max_digits else None
