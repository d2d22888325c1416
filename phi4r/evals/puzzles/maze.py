"""Maze: questions about a path that is marked in a maze of characters.

The maze is a random spanning tree of size x size cells; the one path from S to E is marked. Three kinds of questions
take turns: how many right turns the path takes, how many turns at all, and whether E lies in a given direction of S.

    #####        wording=short has no border and no options:    right
    #S#E#                                                       S#E
    #X#X#                                                       x#x
    #XXX#                                                       xxx
    #####

A turn is a change of direction from one move to the next. It is a right turn if the new direction is clockwise of the
old one, as down is of right.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from phi4r.errors import UserError
from phi4r.evals.options import choice_prompt, choice_reference, draw_counts
from phi4r.evals.puzzles.maze_drawing import Cell, carve, direction, find_path, mark_path, turns
from phi4r.evals.puzzles.maze_solution import RELATIONS, SHORT_RELATIONS, solve
from phi4r.evals.puzzles.puzzle import Puzzle
from phi4r.verifiers.choice import ChoiceVerifier

QUESTIONS = ("right_turns", "turns", "relation")
WORDINGS = ("full", "short")

_MAX_MAZES = 10_000  # drawn for a path of the length that is asked for

_YES_NO = ("Yes", "No")
_LEGEND = """The maze below is drawn with characters: # is a wall, a blank is open floor, S is the start, E is the \
exit, and the path from S to E is marked with X. Up is towards the first line."""
_ASKED = {
    "right_turns": """How many right turns does the path from S to E take? A turn is a change of direction from one \
step to the next; it is a right turn if one who walks along the path turns clockwise.""",
    "turns": """How many turns does the path from S to E take in all, left and right ones? A turn is a change of \
direction from one step to the next.""",
}
_SHORT_ASKED = {"right_turns": "right", "turns": "turns"}


@dataclasses.dataclass(frozen=True)
class Maze:
    """A maze and what is asked of it.

    The `repr`, by which splits are told apart, leaves the question out: whoever was trained on one question about a
    maze knows its path, and would not answer the others from the drawing alone.

    Attributes:
      drawing: the walls, see `phi4r.evals.puzzles.maze_drawing`.
      start: cell of S.
      end: cell of E.
      question: one of `QUESTIONS`.
      options: counts to choose from; empty for "relation".
      relation: the signs of (row, column) of E seen from S that "relation" asks about.
    """

    drawing: tuple[str, ...]
    start: Cell
    end: Cell
    question: str = dataclasses.field(repr=False)
    options: tuple[int, ...] = dataclasses.field(repr=False)
    relation: Cell = dataclasses.field(repr=False)


def draw(
    rng: random.Random, index: int, *, size: int, min_path: int, max_path: int, question: str, wording: str
) -> Maze:
    """Draws a maze; `index` decides which question is asked of it, and whether "relation" is to be affirmed.

    Args:
      rng: all chance.
      index: of the problem.
      size: cells in a line.
      min_path: fewest moves from S to E.
      max_path: most moves; 0 for any number.
      question: one of `QUESTIONS`, or "all" in turn.
      wording: one of `WORDINGS`.

    Raises:
      UserError: for a maze of less than 2 x 2 cells, paths that it cannot have, or an unknown question or wording.
    """
    if size < 2:
        raise UserError(f"maze needs size >= 2, not {size}.")
    if not 1 <= min_path <= (max_path or min_path):
        raise UserError(f"maze needs 1 <= min_path <= max_path, not min_path={min_path}, max_path={max_path}.")
    if question not in ("all", *QUESTIONS):
        raise UserError(f"maze has no question {question!r}; take all, {', '.join(QUESTIONS)}.")
    if wording not in WORDINGS:
        raise UserError(f"maze has no wording {wording!r}; take {' or '.join(WORDINGS)}.")
    asked = question
    if question == "all":
        index, kind = divmod(index, len(QUESTIONS))
        asked = QUESTIONS[kind]
    drawing, start, end = _with_path(rng, size, min_path, max_path or size * size)
    relation = true_relation = direction(start, end)
    options: tuple[int, ...] = ()
    if asked != "relation":
        options = draw_counts(rng, _count(asked, find_path(drawing, start, end)))
    elif index % 2:
        while relation == true_relation:  # drawn like the true ones, so that the question does not betray its answer
            relation = direction(*_two_cells(rng, size))
    return Maze(drawing, start, end, asked, options, relation)


def pose(maze: Maze, *, size: int, wording: str, **_: int | str) -> tuple[str, str, dict[str, Any]]:
    """Returns prompt, reference and meta data of a maze."""
    path = find_path(maze.drawing, maze.start, maze.end)
    if maze.question == "relation":
        options, right = _YES_NO, int(maze.relation != direction(maze.start, maze.end))
    else:
        options = tuple(map(str, maze.options))
        right = maze.options.index(_count(maze.question, path))
    prompt = _short_prompt(maze, path) if wording == "short" else choice_prompt(_question(maze, path), options)
    meta = {"question": maze.question, "wording": wording, "size": size, "path_length": len(path) - 1}
    return prompt, choice_reference(options, right), meta


def _with_path(rng: random.Random, size: int, least: int, most: int) -> tuple[tuple[str, ...], Cell, Cell]:
    """Draws mazes with S and E until the path between them is neither too short nor too long."""
    for _ in range(_MAX_MAZES):
        drawing = carve(rng, size)
        start, end = _two_cells(rng, size)
        if least <= len(find_path(drawing, start, end)) - 1 <= most:
            return drawing, start, end
    raise UserError(f"maze finds no path of {least} to {most} moves in a maze of size={size}; take other numbers.")


def _two_cells(rng: random.Random, size: int) -> tuple[Cell, Cell]:
    start, end = rng.sample(range(size * size), 2)
    return divmod(start, size), divmod(end, size)


def _count(question: str, path: Sequence[Cell]) -> int:
    return sum(turn == "right" if question == "right_turns" else turn != "" for turn in turns(path))


def _question(maze: Maze, path: Sequence[Cell]) -> str:
    wall = "#" * (len(maze.drawing) + 2)
    lines = "\n".join([wall, *(f"#{line}#" for line in mark_path(maze.drawing, path, mark="X")), wall])
    asked = _ASKED.get(maze.question) or f"Is E {RELATIONS[maze.relation]} S? Walls do not matter here."
    return f"{_LEGEND}\n\n{lines}\n\n{asked}"


def _short_prompt(maze: Maze, path: Sequence[Cell]) -> str:
    asked = _SHORT_ASKED.get(maze.question) or f"E {SHORT_RELATIONS[maze.relation]} S"
    return "\n".join([asked, *(line.replace(" ", ".") for line in mark_path(maze.drawing, path, mark="x"))])


MAZE = Puzzle(
    name="maze",
    title="Maze",
    draw=draw,
    pose=pose,
    make_verifier=lambda thinking: ChoiceVerifier(thinking=thinking),
    parameters={"size": 10, "min_path": 1, "max_path": 0, "question": "all", "wording": "full"},
    num_items=1500,
    groups=("question",),
    level="path_length",
    solve=solve,
)
