"""Searches for a model that are written out: the thoughts of worked solutions, each step following from those before.

A literal is v or -v for variable v = 1..n; a clause is a tuple of literals. In full wording variable 2 is `x2` and
its negation `not x2`; in short wording they are `b` and `B`.
"""

import itertools
import string
from collections.abc import Collection, Iterator, Sequence

Clause = Sequence[int]


def letters(literals: Sequence[int]) -> str:
    """Returns literals in short wording: `aBc` for 1, -2, 3."""
    return "".join(string.ascii_letters[abs(x) - 1 + (26 if x < 0 else 0)] for x in literals)


def words(clause: Clause) -> str:
    """Returns a clause in full wording: `(x1 or not x2 or x3)`."""
    return "(" + " or ".join(f"x{x}" if x > 0 else f"not x{-x}" for x in clause) + ")"


def look_up_clauses(clauses: Sequence[Clause], num_vars: int) -> tuple[str, list[int] | None]:
    """Looks for the first model in the order abc, abC, aBc, ..., and skips what begins with a dead end.

    Returns:
      the thought, and the model as literals (None if there is none). After each beginning the thought names the clauses
      that would make it a dead end, those that are false by its last literal, as far as the first that there is (+; the
      others have -): `abc ABC+,abC ABc-` for the model abC.
    """
    steps: list[str] = []
    model = _extend([], {tuple(clause) for clause in clauses}, num_vars, steps)
    return ",".join(steps), model


def _extend(
    prefix: list[int], clauses: Collection[tuple[int, ...]], num_vars: int, steps: list[str]
) -> list[int] | None:
    """Returns the first model that begins with the literals of `prefix`, or None; writes what is looked up."""
    looked_up = []
    for pair in itertools.combinations(prefix[:-1], 2):
        clause = tuple(-x for x in (*pair, prefix[-1]))
        looked_up.append(letters(clause) + ("+" if clause in clauses else "-"))
        if clause in clauses:
            break
    if looked_up:
        steps.append(" ".join((letters(prefix), *looked_up)))
        if looked_up[-1].endswith("+"):
            return None
    if len(prefix) == num_vars:
        return prefix
    for literal in (len(prefix) + 1, -len(prefix) - 1):
        model = _extend([*prefix, literal], clauses, num_vars, steps)
        if model is not None:
            return model
    return None


def propagate_and_branch(clauses: Sequence[Clause], num_vars: int) -> tuple[str, list[int] | None]:
    """Looks for a model by unit propagation, and by cases where nothing is forced (Davis, Logemann, Loveland).

    Returns:
      the thought, one step a line, and the model as literals (None if there is none).
    """
    lines = ["Where a clause has one literal left that is not false, that literal must be true. Otherwise try a value."]
    model = _by_cases([], {}, clauses, num_vars, lines)
    lines.append("Every case has failed." if model is None else "Every variable has a value, and no clause is false.")
    return "\n".join(lines), model


def _by_cases(
    choices: list[int], literals: dict[int, None], clauses: Sequence[Clause], num_vars: int, lines: list[str]
) -> list[int] | None:
    """Returns a model that has all of `literals` (a set in order), or None; writes every step."""
    literals = dict(literals)
    for line, forced in _propagated(literals, clauses):
        lines.append(line)
        if forced is None:
            return None
        literals[forced] = None
    free = [v for v in range(1, num_vars + 1) if v not in literals and -v not in literals]
    if not free:
        return sorted(literals, key=abs)
    for literal in (free[0], -free[0]):
        tried = [*choices, literal]
        lines.append(f"Case {', '.join(map(_equation, tried))}:")
        model = _by_cases(tried, {**literals, literal: None}, clauses, num_vars, lines)
        if model is not None:
            return model
    return None


def _propagated(literals: dict[int, None], clauses: Sequence[Clause]) -> Iterator[tuple[str, int | None]]:
    """Yields what is forced, as a line and a literal, until nothing is; the literal None where a clause is false.

    Between two steps the caller adds the literal to `literals`.
    """
    found = True
    while found:
        found = False
        for number, clause in enumerate(clauses, start=1):
            open_literals = [x for x in clause if -x not in literals]
            if len(open_literals) > 1 or any(x in literals for x in clause):
                continue
            found = bool(open_literals)
            if found:
                yield f"Clause {number} {words(clause)}: {_equation(open_literals[0])}.", open_literals[0]
            else:
                yield f"Clause {number} {words(clause)} is false; this case fails.", None
            break


def _equation(literal: int) -> str:
    return f"x{abs(literal)} = {literal > 0}"
