"""The parts of a reward by name: what a config may compose, and which of them a verifier scores."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.settings import build
from phi4r.verifiers.exact import IntegerVerifier
from phi4r.verifiers.math import MathVerifier
from phi4r.verifiers.specification import specification, verifier_class
from phi4r.verifiers.verdict import Verifier

# Parts that `phi4r.rl.rewards.compute_rewards` knows.
COMPUTED = ("accuracy", "repetition", "correct", "format", "overlong")
VERIFIERS: Mapping[str, type[Verifier]] = {"integer": IntegerVerifier, "math": MathVerifier}


@dataclasses.dataclass(frozen=True)
class RewardPart:
    """One term of a reward.

        accuracy     the paper's R_acc_scaled: the verdict of the task, shaped by length and overridden by format
        repetition   the paper's R_rep
        correct      1 where the task's verdict is right, else 0
        format       1 where there is one whole <think> block and the response ended, else 0
        overlong     DAPO's soft penalty (arXiv 2503.14476, eq. 13): 0 up to max_length - overlong_buffer, falling to -1
        integer, math, or any other name with a `verifier`: the score that this verifier gives, in [0, 1]

    Attributes:
      name: one of these; the part is logged as `reward_<name>`.
      weight: what the part is multiplied by in the sum.
      verifier: "module:Class" of a verifier of your own (`phi4r.verifiers.Verifier`); empty for the names above.
      fields: settings of the verifier.
      reference: key in the `meta` of every problem of what the verifier compares with; empty for the problem's answer.
    """

    name: str
    weight: float = 1.0
    verifier: str = ""
    fields: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    reference: str = ""

    def __post_init__(self):
        if not self.verifier and self.name not in (*COMPUTED, *VERIFIERS):
            raise UserError(
                f"reward.parts: {self.name!r} is not a part of a reward; known are "
                f'{", ".join((*COMPUTED, *VERIFIERS))}, and any other name with verifier="module:Class".'
            )
        if self.verifier and self.name in (*COMPUTED, *VERIFIERS):
            raise UserError(f"reward.parts: {self.name!r} has a meaning already; name your verifier differently.")
        if (self.fields or self.reference) and self.name in COMPUTED:
            raise UserError(f"reward.parts: fields and reference are for verifiers; {self.name!r} takes neither.")

    def reference_of(self, problem: Problem) -> str:
        """Returns what the verifier compares a response to `problem` with."""
        return problem.meta[self.reference] if self.reference else problem.answer


def part_verifiers(parts: Sequence[RewardPart], problems: Sequence[Problem]) -> dict[str, Verifier]:
    """Returns the verifiers of the parts that have one, by the name of the part.

    Args:
      parts: of the reward.
      problems: that are going to be asked.

    Raises:
      UserError: if a verifier cannot be imported, built or run in a worker, or a problem lacks its reference.
    """
    verifiers = {part.name: _verifier(part) for part in parts if part.name not in COMPUTED}
    for part in parts:
        lacking = [problem.id for problem in problems if part.reference and not _has_text(problem, part.reference)]
        if lacking:
            raise UserError(
                f"reward.parts: {part.name!r} compares with meta[{part.reference!r}] of a problem, which is no text in "
                f"{len(lacking)} of {len(problems)} problems, the first {lacking[0]}; give it there as text."
            )
    return verifiers


def _has_text(problem: Problem, key: str) -> bool:
    return isinstance(problem.meta.get(key), str)


def _verifier(part: RewardPart) -> Verifier:
    """Imports and builds the verifier of a part, and checks that it can travel to a worker."""
    cls: Any = VERIFIERS.get(part.name)
    if cls is None:
        try:
            cls = verifier_class(part.verifier)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"reward.parts: the verifier {part.verifier!r} of {part.name!r} cannot be imported ({error}); write "
                '"module:Class" of a frozen dataclass on the import path.'
            ) from error
    if not dataclasses.is_dataclass(cls):
        raise UserError(f"reward.parts: {part.verifier!r} is no dataclass; a verifier is a frozen dataclass.")
    verifier = build(cls, part.fields, where=f"config.reward.parts[{part.name}].fields")
    specification(verifier)
    return verifier
