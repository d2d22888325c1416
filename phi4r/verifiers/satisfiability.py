r"""The verifier of satisfiability problems: an assignment is checked clause by clause, never compared with another.

full     <final_answer>{'Solution': 'True, False, True'}</final_answer>    or 'Unsatisfiable'
short    \boxed{aBc}    variables as letters in order, a capital for False;  or \boxed{none}
"""

import json
import string
from dataclasses import dataclass
from typing import Any

from phi4r.verifiers.tagged import tagged_answer
from phi4r.verifiers.verdict import Verdict, failed, judged, unanswered

Clauses = list[list[int]]

_VALUES = {"true": True, "false": False}
_NO_MODEL = ("unsatisfiable", "none")


@dataclass(frozen=True)
class SatVerifier:
    """Judges an assignment, or the claim that there is none, against a formula in conjunctive normal form.

    The reference is JSON, `{"clauses": [[1, -2, 3], ...], "num_vars": 4, "satisfiable": true}`; a literal -2 is the
    negation of variable 2. The score is 1 or 0: an assignment drawn blindly satisfies 7 of 8 clauses, so the share of
    satisfied clauses would reward any guess over the right claim that there is none. That share is
    `parts["clauses"]`; a claim that no assignment exists has 1 if that is so and 0 otherwise.

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
    """

    thinking: bool = False

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict, in microseconds; a reference that is no formula is an "error"."""
        answer = tagged_answer(response, "Solution", thinking=self.thinking)
        if answer is None:
            return unanswered()
        formula = _formula(reference)
        if formula is None:
            return failed("error", answer.text)
        clauses, num_vars, satisfiable = formula
        if answer.value is not None and answer.value.lower() in _NO_MODEL:
            share = float(not satisfiable)
        else:
            values = None if answer.value is None else read_assignment(answer.value, num_vars)
            share = 0.0 if values is None else satisfied_share(clauses, values)
            if share == 1.0 and not satisfiable:  # the reference is wrong, and the answer proves it
                return failed("error", answer.text)
        return judged(answer.text, share == 1.0, parts={"clauses": share})

    def quick(self, response: str, reference: str) -> Verdict:
        """Returns the verdict: every one is cheap."""
        return self(response, reference)

    def warm_up(self) -> None:
        """Has nothing to load."""


def read_assignment(text: str, num_vars: int) -> list[bool] | None:
    """Reads `True, False, ...` or letters (`aB`: a is true, b false); None without a value for each variable."""
    if text.isascii() and text.lower() == string.ascii_lowercase[:num_vars]:
        return [letter.islower() for letter in text]
    values = [_VALUES.get(word.strip().lower()) for word in text.split(",")]
    return None if None in values or len(values) != num_vars else values


def satisfied_share(clauses: Clauses, values: list[bool]) -> float:
    """Returns the share of clauses with a true literal; `values[v - 1]` is that of variable v."""
    return sum(any(values[abs(x) - 1] == (x > 0) for x in clause) for clause in clauses) / len(clauses)


def _formula(reference: str) -> tuple[Clauses, int, bool] | None:
    """Returns the clauses, the number of variables and whether there is a model; None for a malformed reference."""
    try:
        values = json.loads(reference)
        clauses, num_vars, satisfiable = values["clauses"], values["num_vars"], values["satisfiable"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if type(num_vars) is not int or not isinstance(satisfiable, bool) or not isinstance(clauses, list) or not clauses:
        return None
    well_formed = all(isinstance(clause, list) and clause and _are_literals(clause, num_vars) for clause in clauses)
    return (clauses, num_vars, satisfiable) if well_formed else None


def _are_literals(clause: list[Any], num_vars: int) -> bool:
    return all(type(x) is int and 1 <= abs(x) <= num_vars for x in clause)
