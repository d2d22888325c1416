"""Answers that no rule can judge: open requests, and references that are not to be compared as mathematics."""

from dataclasses import dataclass

from phi4r.verifiers.answers import END_OF_THOUGHT
from phi4r.verifiers.verdict import Verdict, unanswered


@dataclass(frozen=True)
class UnjudgedVerifier:
    """Finds the solution of a response and leaves it to a judge (`phi4r.evals.judging`).

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no solution.
    """

    thinking: bool = False

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns "unjudged", or "no_answer" for a response without a solution."""
        _, closed, solution = response.rpartition(END_OF_THOUGHT)
        if (self.thinking and not closed) or not solution.strip():
            return unanswered()
        return Verdict(False, 0.0, None, "unjudged")

    def quick(self, response: str, reference: str) -> Verdict:
        """Returns the verdict: every one is cheap."""
        return self(response, reference)

    def warm_up(self) -> None:
        """Has nothing to load."""
