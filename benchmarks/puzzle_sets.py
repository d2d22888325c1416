"""Seconds to make the evaluation set of each puzzle, on one core.

    python -m benchmarks.puzzle_sets

A set is the one of the paper: default parameters, as many problems as the report asks, seed 0, split "test". The time
is that of drawing until an instance belongs to the split, of the reference answer (the shortest tour, the number of
models) and of the prompt.
"""

import argparse
import os
import time

from phi4r.evals.puzzles.puzzle import Puzzle, PuzzleProblems
from phi4r.evals.puzzles.table import PUZZLES

AIM_S = 60.0


def seconds_to_make(puzzle: Puzzle, *, seed: int) -> float:
    """Makes every problem of a set once."""
    start = time.perf_counter()
    made = sum(1 for _ in PuzzleProblems(puzzle, num=puzzle.num_items, seed=seed, split="test"))
    assert made == puzzle.num_items
    return time.perf_counter() - start


def main() -> None:
    """Prints a line for each puzzle."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--puzzles", nargs="+", choices=sorted(PUZZLES), default=list(PUZZLES), help="only these")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    print(f"{'puzzle':16s}{'problems':>10s}{'seconds':>10s}{'aim':>8s}")
    for name in args.puzzles:
        puzzle = PUZZLES[name]
        seconds = seconds_to_make(puzzle, seed=args.seed)
        said = "" if seconds < AIM_S else "  missed"
        print(f"{name:16s}{puzzle.num_items:10,}{seconds:10.2f}{AIM_S:8.0f}{said}")


if __name__ == "__main__":
    main()
