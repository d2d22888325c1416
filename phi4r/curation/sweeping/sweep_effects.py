"""What a grid of runs says: the main effect of every factor, and whether the effects of several add up.

The additive property (section 2.2 of the paper): what is gained by tuning one domain alone and another alone is
gained by both together. So of a combination whose parts were also run alone, it predicts

    predicted = base + sum over its factors of (that factor alone - base)

which for two is A + B - base. What differs from the measured score is interaction.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from phi4r.curation.sweeping.sweep_settings import FactorSettings

Levels = tuple[str, ...]
SeedScores = Mapping[tuple[Levels, int], float]  # (levels of the factors, seed) -> score


@dataclasses.dataclass(frozen=True)
class MainEffect:
    """A level of a factor, whatever the others.

    Attributes:
      factor: its name.
      level: of it.
      mean: of the scores of all runs at this level.
      effect: by how much that is more than the mean at the base level; None if there is no run at the base level.
      num_runs: how many runs the mean is of.
    """

    factor: str
    level: str
    mean: float
    effect: float | None
    num_runs: int


@dataclasses.dataclass(frozen=True)
class Additivity:
    """A combination of changes, as predicted from each alone, and as measured; means over seeds.

    Attributes:
      levels: of all factors.
      base: score with every factor at its base level.
      alone: score of each change alone, in the order of the factors.
      predicted: the sum of the effects, over the base.
      measured: score of the combination.
      sd: of measured - predicted over seeds; None for one seed.
    """

    levels: Levels
    base: float
    alone: tuple[float, ...]
    predicted: float
    measured: float
    sd: float | None

    @property
    def interaction(self) -> float:
        """What the combination has more than the sum of its parts."""
        return self.measured - self.predicted


def main_effects(scores: SeedScores, factors: Sequence[FactorSettings]) -> list[MainEffect]:
    """Returns every level of every factor that has runs."""
    effects = []
    for place, factor in enumerate(factors):
        at_level = {
            level: [score for (levels, _), score in scores.items() if levels[place] == level]
            for level in factor.level_names
        }
        base = at_level[factor.level_names[0]]
        for level, values in at_level.items():
            if values:
                mean = statistics.fmean(values)
                effect = mean - statistics.fmean(base) if base else None
                effects.append(MainEffect(factor.name, level, mean, effect, len(values)))
    return effects


def additivity(scores: SeedScores, factors: Sequence[FactorSettings]) -> list[Additivity]:
    """Returns every combination of two changes or more; one whose parts were not all run is left out."""
    base_levels = tuple(factor.level_names[0] for factor in factors)
    found = []
    for levels in dict.fromkeys(levels for levels, _ in scores):
        alone = [
            (*base_levels[:place], level, *base_levels[place + 1 :])
            for place, level in enumerate(levels)
            if level != base_levels[place]
        ]
        needed = [levels, base_levels, *alone]
        seeds = [seed for seed in _seeds(scores) if all((cell, seed) in scores for cell in needed)]
        if len(alone) < 2 or not seeds:
            continue
        columns = [[scores[cell, seed] for seed in seeds] for cell in needed]
        measured, base, *parts = map(statistics.fmean, columns)
        gaps = [own - start - sum(part - start for part in rest) for own, start, *rest in zip(*columns, strict=True)]
        predicted = base + sum(part - base for part in parts)
        sd = statistics.stdev(gaps) if len(gaps) > 1 else None
        found.append(Additivity(levels, base, tuple(parts), predicted, measured, sd))
    return found


def _seeds(scores: SeedScores) -> list[int]:
    return sorted({seed for _, seed in scores})
