"""3SAT-Search: find an assignment that satisfies a formula of three-literal clauses, or say that there is none.

A clause has 3 distinct variables, each negated with probability 1/2; clauses are drawn independently, so one may
occur twice. Per number n of variables there are four cells:

    hard-many    m = round(4.26 n) clauses, at least 2 models
    hard-one     m = round(4.26 n) clauses, exactly 1 model
    under        m = round(2.13 n) clauses
    over         m = round(8.52 n) clauses

The hard cells are drawn by rejection: formulas are drawn until one has as many models as its cell asks for. That is
the uniform law of the cell itself, without a bias that planting a model would bring, and cheap: all 2^n assignments
are judged at once, and of the formulas of n = 15 variables 9% have one model and 64% more.
"""

import dataclasses
import functools
import json
import random
from typing import Any

from phi4r.data.records import Problem, Trace
from phi4r.errors import UserError
from phi4r.evals.puzzles.puzzle import Puzzle
from phi4r.evals.puzzles.sat_search import Clause, letters, look_up_clauses, propagate_and_branch, words
from phi4r.verifiers.satisfiability import SatVerifier

MAX_VARS = 20  # 2^20 assignments as bits of one integer: 128 KiB


@dataclasses.dataclass(frozen=True)
class Cell:
    """A kind of formula: clauses for each variable, and how many models are asked for (0 to None: any number)."""

    ratio: float
    min_models: int = 0
    max_models: int | None = None

    def num_clauses(self, num_vars: int) -> int:
        """Returns m of n variables."""
        return round(self.ratio * num_vars)

    def admits(self, num_models: int) -> bool:
        """Whether a formula with so many models belongs to the cell."""
        return self.min_models <= num_models and (self.max_models is None or num_models <= self.max_models)


CELLS = {
    "hard-many": Cell(4.26, min_models=2),
    "hard-one": Cell(4.26, min_models=1, max_models=1),
    "under": Cell(2.13),
    "over": Cell(8.52),
}


@dataclasses.dataclass(frozen=True)
class Formula:
    """A formula in conjunctive normal form: literals v or -v for variables v = 1..num_vars, in order in a clause."""

    cell: str
    num_vars: int
    clauses: tuple[tuple[int, ...], ...]


def draw(rng: random.Random, index: int, *, min_vars: int, max_vars: int, cell: str, wording: str) -> Formula:
    """Draws a formula of the cell and the number of variables whose turn it is.

    Raises:
      UserError: for parameters without formulas.
    """
    _check(min_vars, max_vars, cell, wording)
    cells = tuple(CELLS) if cell == "all" else (cell,)
    name = cells[index % len(cells)]
    num_vars = min_vars + index // len(cells) % (max_vars - min_vars + 1)
    kind = CELLS[name]
    while True:
        clauses = tuple(_clause(rng, num_vars) for _ in range(kind.num_clauses(num_vars)))
        if kind.min_models == 0 or kind.admits(count_models(clauses, num_vars)):
            return Formula(name, num_vars, clauses)


def pose(formula: Formula, *, wording: str, **_: Any) -> tuple[str, str, dict[str, Any]]:
    """Returns the question, the reference of `SatVerifier`, and what the formula is like."""
    num_models = count_models(formula.clauses, formula.num_vars)
    reference = {"clauses": formula.clauses, "num_vars": formula.num_vars, "satisfiable": num_models > 0}
    meta = {
        "cell": formula.cell,
        "num_vars": formula.num_vars,
        "num_clauses": len(formula.clauses),
        "num_models": num_models,
        "wording": wording,
    }
    prompt = _short_prompt(formula) if wording == "short" else _full_prompt(formula)
    return prompt, json.dumps(reference), meta


def count_models(clauses: tuple[Clause, ...], num_vars: int) -> int:
    """Returns the number of satisfying assignments, by judging all 2^n at once.

    Bit i of an integer of 2^n bits belongs to the assignment in which variable v is bit v - 1 of i; the assignments
    that satisfy a clause are the union of those that satisfy its literals.
    """
    satisfying = _true_where(num_vars)
    models = (1 << (1 << num_vars)) - 1
    for first, second, third in clauses:
        models &= satisfying[first] | satisfying[second] | satisfying[third]
        if not models:
            return 0
    return models.bit_count()


@functools.lru_cache
def _true_where(num_vars: int) -> dict[int, int]:
    """Returns for each literal the set of assignments that make it true, as bits."""
    everywhere = (1 << (1 << num_vars)) - 1
    sets = {}
    for variable in range(1, num_vars + 1):
        run = 1 << (variable - 1)  # assignments in a row with one value of this variable
        period = ((1 << run) - 1) << run
        sets[variable] = period * (everywhere // ((1 << 2 * run) - 1))
        sets[-variable] = everywhere ^ sets[variable]
    return sets


def _clause(rng: random.Random, num_vars: int) -> tuple[int, ...]:
    return tuple(v if rng.getrandbits(1) else -v for v in sorted(rng.sample(range(1, num_vars + 1), 3)))


def _check(min_vars: int, max_vars: int, cell: str, wording: str) -> None:
    if not 3 <= min_vars <= max_vars <= MAX_VARS:
        raise UserError(
            f"3sat needs 3 <= min_vars <= max_vars <= {MAX_VARS}, not min_vars={min_vars}, max_vars={max_vars}."
        )
    if cell != "all" and cell not in CELLS:
        raise UserError(f"3sat has no cell {cell!r}; take all or one of {', '.join(CELLS)}.")
    if wording not in ("full", "short"):
        raise UserError(f"3sat has no wording {wording!r}; take full or short.")


def _short_prompt(formula: Formula) -> str:
    return f"sat {formula.num_vars}: " + " ".join(map(letters, formula.clauses))


def _full_prompt(formula: Formula) -> str:
    clauses = "\n".join(f"{number}. {words(clause)}" for number, clause in enumerate(formula.clauses, start=1))
    return f"""\
The {formula.num_vars} variables x1 to x{formula.num_vars} are each True or False. Can all of these \
{len(formula.clauses)} clauses be satisfied at once? A clause is satisfied if at least one of its literals is true; \
"not x1" is true if x1 is False.

{clauses}

If so, end your response with a value for each variable, in the order from x1 to x{formula.num_vars} and separated by \
commas, in exactly this form:
<final_answer>{{'Solution': 'True, False, ..., True'}}</final_answer>
If no assignment satisfies all clauses, end your response with:
<final_answer>{{'Solution': 'Unsatisfiable'}}</final_answer>"""


def solve(problem: Problem) -> Trace:
    """Writes the search for a model: unit propagation and cases in full wording, clauses looked up in short wording.

    Raises:
      UserError: if `problem` is not one of this puzzle.
    """
    try:
        formula = json.loads(problem.answer)
        clauses, num_vars, wording = formula["clauses"], formula["num_vars"], problem.meta["wording"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"problem {problem.id} is not one of the puzzle 3sat; make it with PuzzleProblems.") from error
    if wording == "short":
        thought, model = look_up_clauses(clauses, num_vars)
        solution = f"\\boxed{{{'none' if model is None else letters(model)}}}"
    else:
        thought, model = propagate_and_branch(clauses, num_vars)
        answer = "Unsatisfiable" if model is None else ", ".join(str(x > 0) for x in model)
        found = "No assignment satisfies" if model is None else "This assignment satisfies"
        solution = f"{found} all clauses.\n<final_answer>{{'Solution': '{answer}'}}</final_answer>"
    return Trace(problem.id, problem.prompt, thought, solution, problem.answer, dict(problem.meta))


SAT = Puzzle(
    name="3sat",
    title="3SAT-Search",
    draw=draw,
    pose=pose,
    make_verifier=SatVerifier,
    parameters={"min_vars": 4, "max_vars": 15, "cell": "all", "wording": "full"},
    num_items=960,
    groups=("cell", "num_vars"),
    level="num_vars",
    solve=solve,
)
