"""Worked solutions of spatial maps: chains of statements, axis by axis."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phi4r.data.records import Problem, Trace
from phi4r.errors import UserError
from phi4r.evals.options import letter_of, read_choice_reference
from phi4r.evals.puzzles.spatial_statements import DIRECTIONS, Closure, Finding, Statement

LONG_DIRECTIONS = {"NE": "northeast", "NW": "northwest", "SE": "southeast", "SW": "southwest"}

_DIRECTION = "|".join([*DIRECTIONS, *LONG_DIRECTIONS.values()])
_CODES = {name: code for code, name in LONG_DIRECTIONS.items()} | {code: code for code in DIRECTIONS}
_STATEMENT = re.compile(rf"^(?:The )?(\w+) (?:is )?({_DIRECTION}) (?:of the )?(\w+)\.?$", re.MULTILINE)
_ABOUT_ONE = re.compile(r"^In which direction of the (?P<anchor>\w+) is the (?P<subject>\w+)\?$", re.MULTILINE)
_SHORT_ABOUT_ONE = re.compile(r"^(?P<subject>\w) \? (?P<anchor>\w)$", re.MULTILINE)
_ABOUT_MANY = re.compile(
    rf"^(?:Which of these places is|How many of the other places are|\?|#) (?P<direction>{_DIRECTION}) (?:of the )?"
    r"(?P<anchor>\w+)",
    re.MULTILINE,
)
_LEGEND = "P < Q says that P is farther west than Q, or farther south."
_AXES = ("West to east", "South to north")


@dataclass(frozen=True)
class _Asked:
    """What a prompt says, with objects numbered in the order of their appearance."""

    names: Sequence[str]
    closure: Closure
    anchor: int
    direction: str  # that is asked about; empty where it is the answer
    subject: int  # whose direction is asked for; -1 in other questions

    def chain(self, objects: Sequence[int], sign: str = " < ") -> str:
        return sign.join(self.names[number] for number in objects)


def solve(problem: Problem) -> Trace:
    """Writes the worked solution of a spatial map, from the statements in its prompt.

    Raises:
      UserError: if the prompt of `problem` is of another kind.
    """
    asked = _read(problem.prompt)
    short = problem.meta["wording"] == "short"
    options, right = read_choice_reference(problem.answer)
    if asked.subject >= 0:
        thought = _short_direction(asked) if short else _direction(asked)
    else:
        counting = problem.meta["question"] == "count"
        findings = asked.closure.decide_all(asked.direction, asked.anchor)
        if not counting:
            subjects = [asked.names.index(option) for option in options]
            findings = {subject: findings[subject] for subject in subjects}
        thought = (_short_members if short else _members)(asked, findings, counting)
    if short:
        solution = f"\\boxed{{{options[right]}}}"
    else:
        thought += f"\nThat is option {letter_of(right)}, {options[right]}."
        solution = f"The right option is {letter_of(right)}, {options[right]}.\n\n\\boxed{{{letter_of(right)}}}"
    return Trace(problem.id, problem.prompt, thought, solution, options[right], dict(problem.meta))


def _read(prompt: str) -> _Asked:
    found = _STATEMENT.findall(prompt)
    about_one = _ABOUT_ONE.search(prompt) or _SHORT_ABOUT_ONE.search(prompt)
    about_many = _ABOUT_MANY.search(prompt)
    if not found or not (about_one or about_many):
        raise UserError("the prompt has no statements or no question; give solve() a problem of spatial_map.")
    names = list(dict.fromkeys(name for subject, _, other in found for name in (other, subject)))
    statements = [Statement(names.index(subject), _CODES[code], names.index(other)) for subject, code, other in found]
    closure = Closure(statements, len(names))
    if about_one:
        return _Asked(names, closure, names.index(about_one["anchor"]), "", names.index(about_one["subject"]))
    return _Asked(names, closure, names.index(about_many["anchor"]), _CODES[about_many["direction"]], -1)


def _direction(asked: _Asked) -> str:
    subject = asked.names[asked.subject]
    direction, proof = asked.closure.direction_of(asked.subject, asked.anchor)
    lines = [_LEGEND]
    for axis, chain in proof.chains:
        side = (("west", "east"), ("south", "north"))[axis][DIRECTIONS[direction][axis] > 0]
        lines.append(f"{_AXES[axis]}: {asked.chain(chain)}. So the {subject} is farther {side}.")
    lines.append(f"The {subject} is {LONG_DIRECTIONS[direction]} of the {asked.names[asked.anchor]}.")
    return "\n".join(lines)


def _members(asked: _Asked, findings: Mapping[int, Finding], counting: bool) -> str:
    """Returns a line for every place: the chains by which it lies in the direction asked about, or does not."""
    where = f"{LONG_DIRECTIONS[asked.direction]} of the {asked.names[asked.anchor]}"
    lines, count = [_LEGEND], 0
    for subject, finding in findings.items():
        count += finding.holds
        shown = ", ".join(f"{_AXES[axis].lower()} {asked.chain(chain)}" for axis, chain in finding.chains)
        so_far = f", {count} so far" if counting else ""
        lines.append(f"The {asked.names[subject]}: {shown}. {'Is' if finding.holds else 'Is not'} {where}{so_far}.")
    return "\n".join(lines)


def _short_direction(asked: _Asked) -> str:
    """Returns both chains, from the subject on, each with the side on which the subject lies by it."""
    direction, proof = asked.closure.direction_of(asked.subject, asked.anchor)
    sides = direction[1], direction[0]  # of "NE" E from west to east, N from south to north
    words = []
    for axis, chain in proof.chains:
        first = chain[0] == asked.subject
        told = asked.chain(chain if first else chain[::-1], "<" if first else ">")
        words.append(f"{'xy'[axis]} {told} {sides[axis]}")
    return " ".join(words)


def _short_members(asked: _Asked, findings: Mapping[int, Finding], counting: bool) -> str:
    """Returns for every place its chains, and + or -, or the count so far."""
    words, count = [], 0
    for subject, finding in findings.items():
        count += finding.holds
        shown = " ".join(f"{'xy'[axis]} {asked.chain(chain, '<')}" for axis, chain in finding.chains)
        words.append(f"{asked.names[subject]} {shown} {count if counting else '-+'[finding.holds]}")
    return " ".join(words)
