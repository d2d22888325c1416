"""Worked solutions of mazes: the marked path move by move, with the count so far."""

from collections.abc import Sequence

from phi4r.data.records import Problem, Trace
from phi4r.evals.options import letter_of, read_choice_reference
from phi4r.evals.puzzles.maze_drawing import Cell, direction, headings, read_path, turns

RELATIONS = {
    (-1, -1): "above and to the left of",
    (-1, 0): "straight above",
    (-1, 1): "above and to the right of",
    (0, -1): "straight to the left of",
    (0, 1): "straight to the right of",
    (1, -1): "below and to the left of",
    (1, 0): "straight below",
    (1, 1): "below and to the right of",
}
SHORT_RELATIONS = {(row, column): ("u", "", "d")[row + 1] + ("l", "", "r")[column + 1] for row, column in RELATIONS}

_HEADINGS = ("right", "down", "left", "up")


def solve(problem: Problem) -> Trace:
    """Writes the worked solution of a maze, from the drawing in its prompt.

    Raises:
      UserError: if the prompt of `problem` has no maze.
    """
    path = read_path(problem.prompt)
    short = problem.meta["wording"] == "short"
    if problem.meta["question"] == "relation":
        thought = _short_relation(problem.prompt, path) if short else _relation(path)
    else:
        counted = {"right"} if problem.meta["question"] == "right_turns" else {"right", "left"}
        thought = _short_count(path, counted) if short else _count(path, counted)
    options, right = read_choice_reference(problem.answer)
    if short:
        solution = f"\\boxed{{{options[right].lower()}}}"
    else:
        thought += f" That is option {letter_of(right)}, {options[right]}."
        solution = f"The right option is {letter_of(right)}, {options[right]}.\n\n\\boxed{{{letter_of(right)}}}"
    return Trace(problem.id, problem.prompt, thought, solution, options[right], dict(problem.meta))


def _count(path: Sequence[Cell], counted: set[str]) -> str:
    """Returns a line for every straight piece of the path, with the turn that it begins with."""
    moves = headings(path)
    begins = [0, *(move for move, turn in enumerate(turns(path), start=1) if turn)]
    ends = [*begins[1:], len(moves)]
    lines, count = [f"S is at {_place(path[0])}."], 0
    for begin, end in zip(begins, ends, strict=True):
        line = f"{_HEADINGS[moves[begin]].capitalize()} to {_place(path[end])}"
        if begin:
            turn = turns(path[begin - 1 : begin + 2])[0]
            count += turn in counted
            line += f": a {turn} turn, so {count}"
        lines.append(f"{line}.")
    what = "right turns" if counted == {"right"} else "turns"
    return "\n".join(lines) + f" This is E.\nThe path takes {count} {what}."


def _relation(path: Sequence[Cell]) -> str:
    relation = RELATIONS[direction(path[0], path[-1])]
    return f"S is at {_place(path[0])}. E is at {_place(path[-1])}. So E is {relation} S."


def _place(cell: Cell) -> str:
    """Returns the line and column of a cell in the drawing with its border, from 1."""
    return f"line {2 * cell[0] + 2}, column {2 * cell[1] + 2}"


def _short_count(path: Sequence[Cell], counted: set[str]) -> str:
    """Returns the cell of S, then for every move its direction, the cell that it leads to, and the count so far."""
    words, count = [_short_place(path[0])], 0
    for heading, cell, turn in zip(headings(path), path[1:], ["", *turns(path)], strict=True):
        count += turn in counted
        words.append(f"{_HEADINGS[heading][0]}{_short_place(cell)} {count}")
    return " ".join(words)


def _short_relation(prompt: str, path: Sequence[Cell]) -> str:
    """Returns the cells of S and E, the relation of E to S, and whether it is (=) or is not (!) the one asked for."""
    asked = prompt.split("\n", 1)[0].split()[1]
    relation = SHORT_RELATIONS[direction(path[0], path[-1])]
    return f"S{_short_place(path[0])} E{_short_place(path[-1])} {relation} {'=' if asked == relation else '!'}{asked}"


def _short_place(cell: Cell) -> str:
    return f"{cell[0]},{cell[1]}"
