"""Puzzle: what makes a Task, of any size, out of a seed.

Problem i of a set is a pure function of (puzzle, seed, i, split, parameters). So a set can be as long as one likes and
costs nothing before it is looked at, the same seed gives the same set everywhere, and a longer set begins with the
shorter one. To which split an instance belongs is a pure function of the instance: what is trained on is never asked
in the evaluation, whatever the seeds.
"""

import dataclasses
import functools
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from phi4r.data.records import Problem, Trace
from phi4r.errors import UserError
from phi4r.verifiers.verdict import Verifier

Split = Literal["train", "dev", "test"]

_SHARES: Mapping[str, int] = {"train": 60, "dev": 10, "test": 30}  # percent of all instances
_MAX_DRAWS = 10_000
_CACHED = 4096


@dataclasses.dataclass(frozen=True)
class Puzzle:
    """A generated task with an exact verifier.

    Attributes:
      name: in task specs and folders.
      title: in tables.
      draw: (rng, index, **parameters) -> an instance, a frozen dataclass with a `repr` that says all. It takes all
        chance from `rng`; `index` decides what is to be balanced over a set (cell, level, kind of question).
        Raises UserError for parameters without instances.
      pose: (instance, **parameters) -> (prompt, answer, meta): the question, the reference that the verifier reads,
        and JSON values. All that costs time (the shortest tour) is done here and not in `draw`.
      make_verifier: called with `thinking`, returns what judges a response.
      parameters: names and default values; the defaults are the evaluation set of the paper.
      num_items: size of that set.
      groups: keys of `Problem.meta` that results are broken down by.
      level: key of `Problem.meta` (a number) that says how hard a problem is.
      solve: writes the worked solution of one of its problems, for supervised fine-tuning.
      num_runs: how often the paper's protocol asks every problem.
    """

    name: str
    title: str
    draw: Callable[..., Any]
    pose: Callable[..., tuple[str, str, dict[str, Any]]]
    make_verifier: Callable[[bool], Verifier]
    parameters: Mapping[str, int | str]
    num_items: int
    groups: tuple[str, ...]
    level: str
    solve: Callable[[Problem], Trace]
    num_runs: int = 5


class PuzzleProblems(Sequence[Problem]):
    """The problems of a set, made when they are looked at."""

    def __init__(self, puzzle: Puzzle, *, num: int, seed: int, split: str, **parameters: int | str):
        """Takes what the set is a function of.

        Raises:
          UserError: for an unknown split or no problems; for bad parameters, when the first problem is drawn here.
        """
        if split not in get_args(Split):
            raise UserError(f"{puzzle.name} has no split {split!r}; take one of {', '.join(get_args(Split))}.")
        if num < 1:
            raise UserError(f"task {puzzle.name} has no problems; give it at least one.")
        self._puzzle, self._num, self._seed, self._split = puzzle, num, seed, split
        self._parameters = {**puzzle.parameters, **parameters}
        self._at = functools.lru_cache(_CACHED)(self._make)
        _ = self[0]

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(self._num))]
        if not -self._num <= index < self._num:
            raise IndexError(index)
        return self._at(index % self._num)

    def __iter__(self) -> Iterator[Problem]:
        return (self._at(index) for index in range(self._num))

    def _make(self, index: int) -> Problem:
        """Draws instances until one belongs to the split."""
        puzzle = self._puzzle
        rng = random.Random(f"{puzzle.name}/{self._seed}/{index}")
        for _ in range(_MAX_DRAWS):
            instance = puzzle.draw(rng, index, **self._parameters)
            if split_of(repr(instance)) == self._split:
                prompt, answer, meta = puzzle.pose(instance, **self._parameters)
                return Problem(f"{puzzle.name}-{self._split}-{self._seed}-{index}", prompt, answer, meta)
        raise UserError(
            f"{puzzle.name} with these parameters has too few instances for its split {self._split!r}; make it larger."
        )


def split_of(instance: str) -> Split:
    """Returns the split that an instance belongs to, by a hash of its text."""
    bucket = int.from_bytes(hashlib.sha256(instance.encode()).digest()[:8], "big") % 100
    for split, share in _SHARES.items():
        if bucket < share:
            return split
        bucket -= share
    raise AssertionError("the shares sum to 100")
