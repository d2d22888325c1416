"""Mazes as drawings of characters, and the path that is marked in them.

A drawing is 2 size - 1 lines of # and blanks: cells lie at even rows and columns, between them walls and passages.
"""

import itertools
import random
from collections.abc import Sequence

from phi4r.errors import UserError

Cell = tuple[int, int]  # row from the top, column from the left, from 0

CLOCKWISE: tuple[Cell, ...] = ((0, 1), (1, 0), (0, -1), (-1, 0))  # right, down, left, up


def carve(rng: random.Random, size: int) -> tuple[str, ...]:
    """Returns the drawing of a random spanning tree of size x size cells; depth first, for long and winding ways."""
    width = 2 * size - 1
    canvas = [["#"] * width for _ in range(width)]
    row, column = 2 * rng.randrange(size), 2 * rng.randrange(size)
    canvas[row][column] = " "
    stack = [(row, column)]
    while stack:
        row, column = stack[-1]
        steps = [
            (down, along)
            for down, along in CLOCKWISE
            if 0 <= row + 2 * down < width
            and 0 <= column + 2 * along < width
            and canvas[row + 2 * down][column + 2 * along] == "#"
        ]
        if not steps:
            stack.pop()
            continue
        down, along = rng.choice(steps)
        canvas[row + down][column + along] = canvas[row + 2 * down][column + 2 * along] = " "
        stack.append((row + 2 * down, column + 2 * along))
    return tuple("".join(line) for line in canvas)


def find_path(drawing: Sequence[str], start: Cell, end: Cell) -> list[Cell]:
    """Returns the cells from `start` to `end`, both included; in a spanning tree there is one way.

    Raises:
      UserError: if there is none.
    """
    came_from: dict[Cell, Cell] = {end: end}
    frontier = [end]
    while start not in came_from:
        if not frontier:
            raise UserError("the maze has no way from S to E; give solve() a problem of the puzzle maze.")
        row, column = cell = frontier.pop()
        for down, along in CLOCKWISE:
            beyond = (row + down, column + along)
            if _is_open(drawing, 2 * row + down, 2 * column + along) and beyond not in came_from:
                came_from[beyond] = cell
                frontier.append(beyond)
    path = [start]
    while path[-1] != end:
        path.append(came_from[path[-1]])
    return path


def direction(start: Cell, end: Cell) -> Cell:
    """Returns the signs of (row, column) of `end` seen from `start`."""
    return (end[0] > start[0]) - (end[0] < start[0]), (end[1] > start[1]) - (end[1] < start[1])


def headings(path: Sequence[Cell]) -> list[int]:
    """Returns the direction of every move along a path of cells, as an index of `CLOCKWISE`."""
    return [CLOCKWISE.index(direction(here, there)) for here, there in itertools.pairwise(path)]


def turns(path: Sequence[Cell]) -> list[str]:
    """Returns "right", "left" or "" for every move but the first: whether it turns away from the one before."""
    names = {0: "", 1: "right", 3: "left"}
    return [names[(new - old) % 4] for old, new in itertools.pairwise(headings(path))]


def mark_path(drawing: Sequence[str], path: Sequence[Cell], *, mark: str) -> list[str]:
    """Returns the drawing with S and E at the ends of a path, and `mark` on the cells and passages between."""
    canvas = [list(line) for line in drawing]
    for here, there in itertools.pairwise(path):
        canvas[here[0] + there[0]][here[1] + there[1]] = canvas[2 * here[0]][2 * here[1]] = mark
    for (row, column), letter in ((path[0], "S"), (path[-1], "E")):
        canvas[2 * row][2 * column] = letter
    return ["".join(line) for line in canvas]


def read_path(prompt: str) -> list[Cell]:
    """Reads the marked path off the drawing in a prompt, with a border of # or without.

    Raises:
      UserError: if there is no drawing of a maze with S and E.
    """
    lines = [line for line in prompt.split("\n") if len(line) > 1 and set(line) <= set("# .xXSE")]
    if lines and set(lines[0]) == {"#"} == set(lines[-1]):
        lines = [line[1:-1] for line in lines[1:-1]]
    places = {letter: (row, line.find(letter)) for row, line in enumerate(lines) for letter in set(line) & {"S", "E"}}
    at_cells = all(row % 2 == column % 2 == 0 for row, column in places.values())
    if len(places) != 2 or not at_cells or {len(line) for line in lines} != {len(lines)}:
        raise UserError("the prompt has no maze with S and E; give solve() a problem of the puzzle maze.")
    marked = ["".join("#" if char in " ." else char for char in line) for line in lines]
    start, end = ((row // 2, column // 2) for row, column in (places["S"], places["E"]))
    return find_path(marked, start, end)


def _is_open(drawing: Sequence[str], row: int, column: int) -> bool:
    return 0 <= row < len(drawing) and 0 <= column < len(drawing) and drawing[row][column] != "#"
