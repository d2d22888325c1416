"""All puzzles by name."""

from collections.abc import Mapping

from phi4r.evals.puzzles.calendar import BA_CALENDAR
from phi4r.evals.puzzles.flenqa import FLENQA
from phi4r.evals.puzzles.maze import MAZE
from phi4r.evals.puzzles.puzzle import Puzzle
from phi4r.evals.puzzles.sat import SAT
from phi4r.evals.puzzles.spatial_map import SPATIAL_MAP
from phi4r.evals.puzzles.tsp import TSP

_ALL: tuple[Puzzle, ...] = (SAT, TSP, BA_CALENDAR, MAZE, SPATIAL_MAP, FLENQA)

PUZZLES: Mapping[str, Puzzle] = {puzzle.name: puzzle for puzzle in _ALL}
