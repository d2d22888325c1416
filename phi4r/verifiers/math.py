r"""Verdicts on mathematical answers: extraction, the cheap paths, and equivalence.

The order (BENCHMARKS of the field differ, see the table in the tests): cut the thought; the last balanced box; string
equality of a normal form; exact numbers; then equivalence through a LaTeX parser. The first steps take microseconds
and no parser; the last one belongs into a worker (`VerifierPool`), for it has no time limit of its own.
"""

import re
from dataclasses import dataclass

from phi4r.verifiers.algebra import expressions
from phi4r.verifiers.algebra.equivalence import same_answer
from phi4r.verifiers.algebra.exact_numbers import exact_number, same_number
from phi4r.verifiers.algebra.normal_form import normal_form
from phi4r.verifiers.algebra.screen import refusal
from phi4r.verifiers.answers import final_answer, last_box
from phi4r.verifiers.verdict import Verdict, failed, judged, unanswered

_MAX_REFERENCE_LENGTH = 4000  # characters; a reference is ours, yet a broken data set must not stall a run
_LOST_BACKSLASHES = str.maketrans({"\f": r"\f", "\b": r"\b"})  # `\frac` and `\binom` read as JSON escapes
_ALTERNATIVES = re.compile(r"\s+OR\s+")
_BRACE = re.compile(r"(?<!\\)[{}]")
_FORMULA = re.compile(r"\\\((.+?)\\\)|(?<![\\$])\$([^$]+)\$|\\\[(.+?)\\\]", re.DOTALL)
_PROSE = re.compile(r"(?<![\\a-zA-Z])[A-Za-z]{2,}\s+[a-z]{2,}")
_LISTED_THOUSANDS = re.compile(r"\$?\s*\d{1,3}(?:,\d{3})+\s*\$?")


@dataclass(frozen=True)
class MathVerifier:
    r"""Judges the final answer of a response against a LaTeX reference.

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
    """

    thinking: bool = False

    def quick(self, response: str, reference: str) -> Verdict | None:
        """Judges without a parser: no answer, equal strings, exact numbers, answers that the screen refuses."""
        answer = final_answer(response, thinking=self.thinking)
        if answer is None:
            return unanswered()
        correct = _quickly_equivalent(reference, answer)
        return None if correct is None else judged(answer, correct)

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict; takes as long as it takes, so ask it through a `VerifierPool`."""
        answer = None
        try:
            answer = final_answer(response, thinking=self.thinking)
            return unanswered() if answer is None else judged(answer, math_equivalent(reference, answer))
        except Exception:  # a verifier never raises: whatever broke is reported as an error of the judge
            return failed("error", answer)

    def warm_up(self) -> None:
        """Imports the parser."""
        expressions.warm_up()


def math_equivalent(gold: str, answer: str) -> bool:
    r"""Whether `answer` is equivalent to the reference `gold`, both LaTeX or plain text without `\boxed`.

    Runs in this process behind the screen, but without a deadline. False where the answer cannot be read.
    """
    quick = _quickly_equivalent(gold, answer)
    if quick is not None:
        return quick
    golds = [reading for form in _evaluated(reference_forms(gold)) for reading in _readings(form)]
    return any(same_answer(g, a) for g in golds for a in _readings(answer))


def reference_forms(gold: str) -> list[str]:
    r"""Returns the answers that a reference accepts.

    References of public sets are not always bare: a box is opened, `$A$ OR $B$` gives two, of a sentence
    ("The smallest possible value of \(a\) is \(248\).") the last formula counts, and one that was cut off
    (`\frac{11}{2^{20}`) gets the braces that it lacks.
    """
    gold = _completed(gold.translate(_LOST_BACKSLASHES))
    boxed = last_box(gold)
    if boxed is not None:
        return [boxed]
    forms = []
    for form in _ALTERNATIVES.split(gold):
        formulas = list(_FORMULA.finditer(form))
        if formulas and _PROSE.search(_FORMULA.sub(" ", form)):
            form = next(group for group in formulas[-1].groups() if group is not None)
        forms.append(form)
    return forms


def _completed(gold: str) -> str:
    """Closes the braces that are still open at the end."""
    num_open = 0
    for brace in _BRACE.findall(gold):
        num_open = max(0, num_open + (1 if brace == "{" else -1))
    return gold + "}" * num_open


def _quickly_equivalent(gold: str, answer: str) -> bool | None:
    """Decides what needs no parser, in bounded time; None for the rest."""
    if gold.strip() == answer.strip():
        return True
    if len(gold) > _MAX_REFERENCE_LENGTH:
        return False
    forms = reference_forms(gold)
    normal_answer = normal_form(answer)
    if normal_answer and any(normal_form(form) == normal_answer for form in forms):
        return True
    forms = _evaluated(forms)
    if refusal(answer) or not normal_answer or not forms:
        return False
    answer_number = exact_number(normal_answer)
    gold_numbers = [exact_number(normal_form(form)) for form in forms]
    if answer_number is None or None in gold_numbers:
        return None
    if any(same_number(gold_number, answer_number) for gold_number in gold_numbers):
        return True
    return None if len(_readings(answer)) > 1 or len(_readings(gold)) > 1 else False


def _evaluated(forms: list[str]) -> list[str]:
    """Returns the forms that pass the screen; the others are compared as strings only."""
    return [form for form in forms if not refusal(form)]


def _readings(latex: str) -> list[str]:
    """Returns the normal forms of an answer: `1,234` may be a number or a list of two."""
    if _LISTED_THOUSANDS.fullmatch(latex.strip()):
        return [normal_form(latex), normal_form(latex.replace(",", ";"))]
    return [normal_form(latex)]
