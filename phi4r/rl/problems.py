"""Which problems a step asks: a pure function of the seed and the step, so that nothing about it needs saving."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from phi4r.data.records import Problem
from phi4r.errors import UserError


class StepProblems(NamedTuple):
    """The problems of a step, and their places in the endless sequence, from which their random keys are made.

    Places and not numbers of problems: where an epoch ends inside a step, the same problem may come twice in it, and
    its two groups must not be the same samples.
    """

    problems: list[Problem]
    places: list[int]


class ProblemSet:
    """Problems in epochs of a shuffled order: none is repeated within an epoch, and none is left out.

    Step n takes places n * P .. n * P + P - 1 of the endless sequence of epochs, each a permutation drawn from
    (seed, epoch). A run that resumes at step n goes on with exactly the problems that it would have had.
    """

    def __init__(self, problems: Sequence[Problem], *, seed: int):
        """Takes the problems.

        Raises:
          UserError: if there are none.
        """
        if not problems:
            raise UserError("there are no problems to learn from; give a task with at least one.")
        self._problems = problems
        self._seed = seed
        self._epoch: tuple[int, np.ndarray] | None = None  # the permutation in use

    def at_step(self, step: int, num_problems: int) -> StepProblems:
        """Returns the problems of a step.

        Args:
          step: from 0.
          num_problems: P, problems in each step of the run.
        """
        places = range(step * num_problems, (step + 1) * num_problems)
        size = len(self._problems)
        problems = [self._problems[self._order(place // size)[place % size]] for place in places]
        return StepProblems(problems, list(places))

    def _order(self, epoch: int) -> np.ndarray:
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self._problems)))
        return self._epoch[1]
