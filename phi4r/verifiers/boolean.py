r"""The boolean verifier: the last "true" or "false" of an answer.

Words are whole ones in any case: "untrue" and "not true" are false, "not false" is true. A box that holds one goes
before the rest of the text, so what is said after the answer does not change it.
"""

import re
from dataclasses import dataclass

from phi4r.verifiers.answers import END_OF_THOUGHT, last_box
from phi4r.verifiers.verdict import Verdict, failed, judged, unanswered

_WORD = re.compile(
    r"(?:(?<![a-z])(?P<not>not|never|cannot be|can't be|isn't)\s{1,4}(?:necessarily\s{1,4})?)?"
    r"(?<![a-z])(?P<un>un)?(?P<word>true|false)(?![a-z])",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class BooleanVerifier:
    """Judges a statement that is "true" or "false" (the reference).

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
    """

    thinking: bool = False

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict, in time linear in the response; a reference that is neither is an "error"."""
        answer = boolean_answer(response, thinking=self.thinking)
        if answer is None:
            return unanswered()
        expected = reference.strip().lower()
        if expected not in ("true", "false"):
            return failed("error", answer)
        return judged(answer, answer == expected)

    def quick(self, response: str, reference: str) -> Verdict:
        """Returns the verdict: every one is cheap."""
        return self(response, reference)

    def warm_up(self) -> None:
        """Has nothing to load."""


def boolean_answer(response: str, *, thinking: bool = False) -> str | None:
    """Returns "true" or "false", or None where a response says neither (or never ended its thought)."""
    _, closed, solution = response.rpartition(END_OF_THOUGHT)
    if thinking and not closed:
        return None
    return _last_word(last_box(solution) or "") or _last_word(solution)


def _last_word(text: str) -> str | None:
    last = None
    for match in _WORD.finditer(text):
        last = match
    if last is None:
        return None
    negated = (last["not"] is not None) != (last["un"] is not None)
    return "true" if (last["word"].lower() == "true") != negated else "false"
