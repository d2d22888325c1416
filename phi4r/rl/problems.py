"""Which problems a step asks: an order that is a pure function of the seed, and how far in it a run has come."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.rl.curriculum import Curriculum

_MOST_PASSED = 1000  # in a row: of problems without end, an epoch would not end either


class StepProblems(NamedTuple):
    """The problems of a step, and their places in the endless sequence, from which their random keys are made.

    Places and not numbers of problems: where an epoch ends inside a step, the same problem may come twice in it, and
    its two groups must not be the same samples.
    """

    problems: list[Problem]
    places: list[int]


class ProblemSet:
    """Problems in epochs of a shuffled order: none is repeated within an epoch, and none is left out.

    The endless sequence of epochs, each a permutation drawn from (seed, epoch), has a problem at every place.
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

    def __len__(self) -> int:
        return len(self._problems)

    def __getitem__(self, place: int) -> Problem:
        """Returns the problem at a place, from 0."""
        epoch, number = divmod(place, len(self._problems))
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, np.random.default_rng([self._seed, epoch]).permutation(len(self._problems)))
        return self._problems[int(self._epoch[1][number])]  # a number of Python: problems may be computed from it


class ProblemQueue:
    """Hands out the problems of a run, each place of the sequence once, those that teach little less often.

    How many a step takes may depend on the answers (refilled groups, a curriculum), so what has been taken goes into
    checkpoints: `state` before, `resume` after, and the run goes on with exactly the problems that it would have had.
    """

    def __init__(self, problem_set: ProblemSet, curriculum: Curriculum | None = None):
        """Stands at the first place.

        Args:
          problem_set: the sequence.
          curriculum: which problems are worth their turn; None asks all.
        """
        self._problem_set, self._curriculum = problem_set, curriculum
        self._position = 0  # the next place
        self._skipped = 0  # places of the run that were passed over

    def take(self, num_problems: int) -> StepProblems:
        """Returns the next problems, and moves on.

        A problem that the curriculum passes over loses its turn; but where a whole epoch has been passed over, or
        `_MOST_PASSED` problems of one, the next is asked whatever the curriculum says, so that there always is one.
        """
        most_passed = min(len(self._problem_set), _MOST_PASSED)
        places: list[int] = []
        passed = 0  # in a row
        while len(places) < num_problems:
            place = self._position
            self._position += 1
            if passed < most_passed and not self._worth_asking(place):
                passed += 1
                continue
            self._skipped += passed
            passed = 0
            places.append(place)
        return StepProblems([self._problem_set[place] for place in places], places)

    def record(self, problems: Sequence[Problem], pass_rates: Sequence[float]) -> None:
        """Takes note of how often each problem was solved just now, as a share of its group."""
        if self._curriculum is not None:
            self._curriculum.record(problems, pass_rates)

    def metrics(self) -> dict[str, float]:
        """Returns how many turns were passed over, and the pass rates of levels, where there is a curriculum."""
        if self._curriculum is None:
            return {}
        levels = {f"pass_rate_{level}": rate for level, rate in self._curriculum.levels().items()}
        return {"skipped_problems": float(self._skipped), **levels}

    def state(self) -> dict[str, Any]:
        """Returns the memory as JSON values of its own, which later steps do not change."""
        memory = {} if self._curriculum is None else self._curriculum.state()
        return {"position": self._position, "skipped": self._skipped, "pass_rates": memory}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Takes over the memory of an earlier process."""
        self._position, self._skipped = state["position"], state["skipped"]
        if self._curriculum is not None:
            self._curriculum.resume(state["pass_rates"])

    def _worth_asking(self, place: int) -> bool:
        return self._curriculum is None or self._curriculum.asks(self._problem_set[place], place)
