r"""Kinds of short answers: how they are asked for, voted on, compared, and recognised.

"math"           a value in \boxed{}, compared by mathematical equivalence
"choice"         the letter of an option
"module:Class"   a verifier of procedural problems; its answers are checked against a reference and cannot vote
"""

import collections
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence

from phi4r.errors import UserError
from phi4r.evals.voting import Vote, majority_vote
from phi4r.verifiers.algebra.exact_numbers import exact_number
from phi4r.verifiers.algebra.normal_form import normal_form
from phi4r.verifiers.algebra.screen import refusal
from phi4r.verifiers.algebra.structure import Expression, Node, Text, parse_structure
from phi4r.verifiers.algebra.trees import parse_tree
from phi4r.verifiers.answers import final_answer
from phi4r.verifiers.choice import ChoiceVerifier
from phi4r.verifiers.math import MathVerifier
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.specification import verifier_class
from phi4r.verifiers.verdict import Verifier

INSTRUCTIONS = {
    "math": r"Work this out step by step. End with the final answer alone in \boxed{...}.",
    "choice": r"Weigh the options step by step. End with the letter of the right one alone in \boxed{...}.",
}

_PROSE = re.compile(r"(?<![\\a-zA-Z])[A-Za-z]{2,}\s+[A-Za-z]{2,}")


def check_kind(kind: str, *, where: str, voting: bool) -> None:
    """Refuses a kind of answers that there is not.

    Args:
      kind: as in the config.
      where: the name of the setting, for the message.
      voting: whether answers have to be compared with each other.

    Raises:
      UserError: if it is neither "math" nor "choice" nor, without voting, the "module:Class" of a verifier.
    """
    if kind in INSTRUCTIONS:
        return
    if voting or ":" not in kind:
        more = "" if voting else " or 'module:Class' of a verifier"
        raise UserError(f"{where}={kind!r} is no kind of answers; give 'math', 'choice'{more}.")
    try:
        verifier_class(kind)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}={kind!r} cannot be imported ({error}); give 'module:Class' of a verifier.") from error


def verifier_of(kind: str, *, thinking: bool) -> Verifier:
    """Returns what judges answers of a kind; `thinking` is whether they show a thought between tags."""
    named = {"math": MathVerifier, "choice": ChoiceVerifier}
    return (named[kind] if kind in named else verifier_class(kind))(thinking=thinking)


def answers_of(kind: str, texts: Sequence[str], *, thinking: bool, reference: str = "") -> list[str | None]:
    """Returns the final answer of each response, or None: as it was written, or the letter of an option.

    Args:
      kind: "math" or "choice".
      texts: the responses.
      thinking: whether they show a thought between tags.
      reference: of a choice, as its verifier takes it, for the texts of the options; may be empty.
    """
    if kind == "math":
        return [final_answer(text, thinking=thinking) for text in texts]
    verifier = ChoiceVerifier(thinking=thinking)
    verdicts = [verifier(text, reference if _is_choice(reference) else "A") for text in texts]
    return [v.answer if v.answer is not None and _is_letter(v.answer) else None for v in verdicts]


def vote(kind: str, answers: Sequence[str | None], pool: VerifierPool) -> Vote | None:
    """Lets answers of a kind vote, equivalent ones for one candidate; returns None where there is no answer."""
    if kind == "math":
        return majority_vote(answers, pool)
    counts = collections.Counter(answer for answer in answers if answer is not None)
    if not counts:
        return None
    (letter, votes), *others = counts.most_common()
    return Vote(letter, answers.index(letter), votes, tied=bool(others) and others[0][1] == votes)


def agreeing(kind: str, answers: Sequence[str | None], truth: str, pool: VerifierPool) -> list[bool]:
    """Returns of each answer whether it is equivalent to `truth`; an answer that cannot be judged is not."""
    if kind == "choice":
        return [answer == truth for answer in answers]
    given = list(dict.fromkeys(answer for answer in answers if answer is not None))
    boxed = [rf"\boxed{{{answer}}}" for answer in given]
    verdicts = pool.verify_all(MathVerifier(), boxed, [truth] * len(given))
    right = {answer for answer, verdict in zip(given, verdicts, strict=True) if verdict.correct}
    return [answer in right for answer in answers]


def choice_letter(reference: str) -> str:
    """Returns the letter of a reference as the verifier of choices takes it, or the empty text."""
    reference = reference.strip()
    if _is_letter(reference.upper()):
        return reference.upper()
    try:
        return json.loads(reference)["letter"] if _is_choice(reference) else ""
    except (ValueError, TypeError, KeyError):
        return ""


def uncheckable(kind: str, answer: str, *, max_length: int) -> str:
    """Returns why an answer of a kind cannot be checked by rules, in a few words, or the empty text if it can.

    Args:
      kind: as in the config; of answers to a verifier of procedural problems nothing is known but whether there is one.
      answer: a reference.
      max_length: characters of a mathematical answer that counts as short.
    """
    answer = answer.strip()
    if not answer:
        return "no answer"
    if kind == "choice":
        return "" if choice_letter(answer) else "not a choice"
    if kind != "math":
        return ""
    if len(answer) > max_length or "\n" in answer:
        return "answer too long"
    return "" if _is_value(answer) else "answer cannot be parsed"


def _is_value(answer: str) -> bool:
    """Whether the verifier of mathematics can read an answer: not a sentence, which it would compare as a string."""
    normal = "" if refusal(answer) else normal_form(answer)
    if not normal:
        return False
    if exact_number(normal) is not None:
        return True
    return not _PROSE.search(answer) and all(_is_readable(leaf) for leaf in _leaves(parse_structure(normal)))


def _is_readable(leaf: Text | Expression) -> bool:
    return isinstance(leaf, Text) or parse_tree(leaf.latex) is not None


def _leaves(node: Node) -> Iterator[Text | Expression]:
    """Yields the innermost pieces of an answer."""
    if isinstance(node, Text | Expression):
        yield node
        return
    for field in dataclasses.fields(node):
        for part in _flat(getattr(node, field.name)):
            if not isinstance(part, str):  # a bracket or a relation
                yield from _leaves(part)


def _flat(value) -> Iterator:
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, tuple):
            yield from part
        else:
            yield part


def _is_letter(text: str) -> bool:
    return len(text) == 1 and "A" <= text <= "Z"


def _is_choice(reference: str) -> bool:
    """Whether the verifier of choices can read a reference."""
    return ChoiceVerifier()("", reference).status != "error"
