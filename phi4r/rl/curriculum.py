"""A curriculum by running pass rate: problems that are solved always or never give their turns to others."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from phi4r.errors import UserError


@dataclasses.dataclass(frozen=True)
class CurriculumSettings:
    """Which problems are asked at each of their turns, and how often the others; not in the paper.

    Attributes:
      low: running pass rate below which a problem counts as too hard.
      high: running pass rate above which it counts as too easy.
      outside_share: share of its turns at which a problem outside the band is asked all the same. At 0 it never comes
        back, even when the policy has learnt it or forgotten it.
      memory: weight of the past in the running pass rate, which is memory * past + (1 - memory) * new.
    """

    low: float = 0.05
    high: float = 0.95
    outside_share: float = 0.1
    memory: float = 0.5

    def __post_init__(self):
        if not 0.0 <= self.low <= self.high <= 1.0:
            raise UserError(f"curriculum.low={self.low} and curriculum.high={self.high} must be a band within [0, 1].")
        if not 0.0 <= self.outside_share <= 1.0 or not 0.0 <= self.memory < 1.0:
            raise UserError(
                f"curriculum.outside_share={self.outside_share} must lie in [0, 1] and curriculum.memory={self.memory} "
                "in [0, 1)."
            )


class Curriculum:
    """The running pass rate of every problem that was asked; one that never was is always worth asking."""

    def __init__(self, settings: CurriculumSettings, *, seed: int):
        """Knows of no problem yet; whether one outside the band is asked at a place is drawn from (seed, place)."""
        self._settings, self._seed = settings, seed
        self._pass_rates: dict[str, float] = {}

    def asks(self, problem_id: str, place: int) -> bool:
        """Whether the problem is asked at this place of the sequence."""
        settings = self._settings
        pass_rate = self._pass_rates.get(problem_id)
        if pass_rate is None or settings.low <= pass_rate <= settings.high:
            return True
        coin = np.random.default_rng([self._seed, place, 1])  # the 1 keeps it apart from the order of an epoch
        return coin.random() < settings.outside_share

    def record(self, problem_id: str, pass_rate: float) -> None:
        """Takes note of the share of a group that solved the problem."""
        past = self._pass_rates.get(problem_id, pass_rate)
        self._pass_rates[problem_id] = self._settings.memory * past + (1.0 - self._settings.memory) * pass_rate

    def state(self) -> dict[str, float]:
        """Returns the running pass rate of every problem asked so far."""
        return dict(self._pass_rates)

    def resume(self, state: Mapping[str, float]) -> None:
        """Takes over the memory of an earlier process."""
        self._pass_rates = dict(state)
