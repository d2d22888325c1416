r"""Test-time scaling: one answer out of several samples, by majority vote or by the best verdict.

Answers vote for their class of mathematical equivalence, so `1/2`, `0.5` and `\frac12` are one candidate.
"""

import dataclasses
from collections.abc import Sequence

from phi4r.evals.scores import leading_classes
from phi4r.verifiers.answers import final_answer
from phi4r.verifiers.math import MathVerifier
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.verdict import Verdict, Verifier


@dataclasses.dataclass(frozen=True)
class Vote:
    """The outcome of a vote.

    Attributes:
      answer: the one with the most votes, as the first of its samples wrote it.
      sample: number of that sample.
      votes: samples that gave it or an equivalent.
      tied: whether another answer has as many votes; then the one that came first wins.
    """

    answer: str
    sample: int
    votes: int
    tied: bool


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is known of several responses to one prompt.

    Attributes:
      answers: final answer of each, as written, or None.
      vote: the outcome of their vote; None where no response has an answer.
      verdicts: of each; None without a reference.
    """

    answers: list[str | None]
    vote: Vote | None
    verdicts: list[Verdict] | None

    @property
    def best(self) -> int | None:
        """Number of the response with the highest score, the first of equals (best-of-N); None without verdicts."""
        if self.verdicts is None:
            return None
        return max(range(len(self.verdicts)), key=lambda number: self.verdicts[number].score)


@dataclasses.dataclass(frozen=True)
class Selector:
    """Chooses among responses.

    Attributes:
      verifier: judges a response against a reference.
      pool: where it runs.
      thinking: whether the model thinks first, as in `final_answer`.
    """

    verifier: Verifier
    pool: VerifierPool
    thinking: bool

    def select(self, responses: Sequence[str], reference: str | None) -> Selection:
        """Lets `responses` vote and, with a reference, judges each of them."""
        answers = [final_answer(response, thinking=self.thinking) for response in responses]
        verdicts = None
        if reference is not None:
            verdicts = self.pool.verify_all(self.verifier, responses, [reference] * len(responses))
        return Selection(answers, majority_vote(answers, self.pool), verdicts)


def majority_vote(answers: Sequence[str | None], pool: VerifierPool) -> Vote | None:
    """Lets the final answers of several responses to one prompt vote.

    Args:
      answers: as written; None does not vote.
      pool: compares answers that only a parser can compare, under its deadline. Those that it cannot judge count as
        different.

    Returns:
      The outcome, or None where there is no answer at all.
    """
    classes = answer_classes(answers, pool)
    leaders = leading_classes(classes)
    if not leaders:
        return None
    first = leaders[0]
    return Vote(answers[first], first, classes.count(first), tied=len(leaders) > 1)


def answer_classes(answers: Sequence[str | None], pool: VerifierPool) -> list[int | None]:
    """Returns the class of each answer: the number of the first one equivalent to it; None for no answer."""
    verifier = MathVerifier()
    class_of: dict[str, int] = {}  # by the text of an answer
    for number, answer in enumerate(answers):
        if answer is None or answer in class_of:
            continue
        firsts = sorted(set(class_of.values()))
        boxed = [rf"\boxed{{{answer}}}"] * len(firsts)
        verdicts = pool.verify_all(verifier, boxed, [answers[first] for first in firsts])
        equal = [first for first, verdict in zip(firsts, verdicts, strict=True) if verdict.correct]
        class_of[answer] = equal[0] if equal else number
    return [None if answer is None else class_of[answer] for answer in answers]
