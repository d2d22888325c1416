"""A curriculum by running pass rate: problems that are solved always or never give their turns to others.

The pass rate is that of a problem, or of all problems of a level of difficulty: among generated problems hardly one
comes twice, but their levels do.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from phi4r.data.records import Problem
from phi4r.errors import UserError


@dataclasses.dataclass(frozen=True)
class CurriculumSettings:
    """Which problems are asked at each of their turns, and how often the others; not in the paper.

    Attributes:
      low: running pass rate below which a problem counts as too hard.
      high: running pass rate above which it counts as too easy.
      outside_share: share of its turns at which a problem outside the band is asked all the same. At 0 it never comes
        back, even when the policy has learnt it or forgotten it.
      memory: weight of the past in the running pass rate, which is memory * past + (1 - memory) * new. A level has one
        new pass rate each time that problems are recorded: the mean over those of the level.
      by: whose pass rates are kept: those of every problem, or of every level of the task (`phi4r.evals.tasks.Task`).
    """

    low: float = 0.05
    high: float = 0.95
    outside_share: float = 0.1
    memory: float = 0.5
    by: Literal["problem", "level"] = "problem"

    def __post_init__(self):
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise UserError(f"curriculum.low={self.low} and curriculum.high={self.high} must be a band within [0, 1].")
        if not 0.0 <= self.outside_share <= 1.0 or not 0.0 <= self.memory < 1.0:
            raise UserError(
                f"curriculum.outside_share={self.outside_share} must lie in [0, 1] and curriculum.memory={self.memory} "
                "in [0, 1)."
            )


class Curriculum:
    """The running pass rate of everything that was asked; what never was is always worth asking."""

    def __init__(self, settings: CurriculumSettings, *, seed: int, level: str = ""):
        """Knows of no pass rate yet; whether what is outside the band is asked at a place is drawn from (seed, place).

        Args:
          settings: the band, and whose pass rates are kept.
          seed: of the draws.
          level: key of `Problem.meta` that says how hard a problem is.

        Raises:
          UserError: if levels are asked for, and the task has none.
        """
        if settings.by == "level" and not level:
            raise UserError("curriculum.by='level' needs a task with levels of difficulty; take 'problem'.")
        self._settings, self._seed, self._level = settings, seed, level
        self._pass_rates: dict[str, float] = {}

    def asks(self, problem: Problem, place: int) -> bool:
        """Whether the problem is asked at this place of the sequence."""
        settings = self._settings
        pass_rate = self._pass_rates.get(self._key(problem))
        if pass_rate is None or settings.low <= pass_rate <= settings.high:
            return True
        coin = np.random.default_rng([self._seed, place, 1])  # the 1 keeps it apart from the order of an epoch
        return coin.random() < settings.outside_share

    def record(self, problems: Sequence[Problem], pass_rates: Sequence[float]) -> None:
        """Takes note of the shares of their groups that solved the problems."""
        new: dict[str, list[float]] = {}
        for problem, pass_rate in zip(problems, pass_rates, strict=True):
            new.setdefault(self._key(problem), []).append(pass_rate)
        memory = self._settings.memory
        for key, shares in new.items():
            share = sum(shares) / len(shares)
            past = self._pass_rates.get(key, share)
            self._pass_rates[key] = memory * past + (1.0 - memory) * share

    def levels(self) -> dict[str, float]:
        """Returns the running pass rate of every level; nothing where pass rates are those of problems."""
        return dict(self._pass_rates) if self._settings.by == "level" else {}

    def state(self) -> dict[str, float]:
        """Returns the running pass rate of every problem or level asked so far."""
        return dict(self._pass_rates)

    def resume(self, state: Mapping[str, float]) -> None:
        """Takes over the memory of an earlier process."""
        self._pass_rates = dict(state)

    def _key(self, problem: Problem) -> str:
        return problem.id if self._settings.by == "problem" else str(problem.meta[self._level])
