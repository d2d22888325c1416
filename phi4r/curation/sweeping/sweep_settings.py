"""What a sweep runs: a grid over keys of a base config, as settings, and the config of each of its runs."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from phi4r.errors import UserError


@dataclasses.dataclass(frozen=True)
class FactorSettings:
    """What is varied.

    Attributes:
      name: in names of runs and in tables.
      key: of the base config, with dots and numbers, as "data.sources.0.weight"; several with blanks between them are
        changed together.
      values: of the key, one a level; of several keys, a value for each of them. The first level is the base, to which
        effects are measured.
      labels: of the levels, in names of runs and in tables; the values themselves where there are none.
    """

    name: str
    key: str
    values: tuple[Any, ...]
    labels: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.name or not self.key.split():
            raise UserError("a factor of the sweep needs a name and a key, as 'math' and 'data.sources.0.weight'.")
        if not self.values:
            raise UserError(f"the factor {self.name} has no values; give a base and at least one more.")
        num_keys = len(self.key.split())
        for value in self.values if num_keys > 1 else ():
            if not isinstance(value, list | tuple) or len(value) != num_keys:
                raise UserError(f"the factor {self.name} has {num_keys} keys; {value!r} is no value for each of them.")
        if self.labels and len(self.labels) != len(self.values):
            raise UserError(
                f"the factor {self.name} has {len(self.labels)} labels for {len(self.values)} values; give each one."
            )
        if len(set(self.level_names)) < len(self.values):
            raise UserError(f"two levels of the factor {self.name} have one label; tell them apart by labels.")

    @property
    def level_names(self) -> tuple[str, ...]:
        """What the levels are called."""
        return self.labels or tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in self.values)

    def changes(self, level: str) -> dict[str, Any]:
        """Returns the value of each key at a level."""
        keys, value = self.key.split(), self.values[self.level_names.index(level)]
        return dict(zip(keys, value if len(keys) > 1 else (value,), strict=True))


@dataclasses.dataclass(frozen=True)
class SweepSettings:
    """A config of a sweep; `configs/sweep.py` is one. The values of the paper's sweeps are not in it.

    Attributes:
      base: a config of SFT, as a file of configs/ would hold it.
      factors: what is varied; all combinations of their levels are run.
      evaluation: a config of an evaluation; the model is each run's own.
      domains: domain -> names of its tasks, with blanks between them, whose mean is its score; empty to let each task
        be its own domain.
      seeds: every combination is run with each of them; with two or more there is a measure of chance.
      steps_per_weight: where positive, a run makes this many steps for each unit of weight of its data sources: what
        is added to a mixture is then trained on in addition, and not in place of what is there.
      traces: name -> spec of a generated task whose solver writes WORKDIR/problems/NAME.jsonl before the first run.
      random_base: shape of a model of random weights in WORKDIR/base: fields of `ModelConfig`; empty for none.
      on_failure: whether a run that fails ends the sweep, or the others still run.
      num_parts: into how many parts the runs are dealt, to run them on several machines with one workdir.
      part: which of them this process runs, from 0.
    """

    base: dict[str, Any]
    factors: tuple[FactorSettings, ...]
    evaluation: dict[str, Any]
    domains: dict[str, str] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    steps_per_weight: int = 0
    traces: dict[str, str] = dataclasses.field(default_factory=dict)
    random_base: dict[str, int | float] = dataclasses.field(default_factory=dict)
    on_failure: Literal["continue", "stop"] = "continue"
    num_parts: int = 1
    part: int = 0

    def __post_init__(self):
        names = [factor.name for factor in self.factors]
        if not names or len(set(names)) < len(names):
            raise UserError("a sweep needs at least one factor, and no two of one name.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"seeds={self.seeds} must be at least one, and no two the same.")
        if not 0 <= self.part < self.num_parts:
            raise UserError(f"part={self.part} must be from 0 to num_parts - 1, which is {self.num_parts - 1}.")
        if self.steps_per_weight < 0:
            raise UserError(f"steps_per_weight={self.steps_per_weight} must be 0, to leave num_steps, or more.")


@dataclasses.dataclass(frozen=True)
class RunPlan:
    """One run of the grid.

    Attributes:
      levels: of the factors, in their order.
      seed: of data and sampling.
      name: of its folder.
      sft: its config of SFT; None where the mixture is empty, and the base is evaluated as it is.
    """

    levels: tuple[str, ...]
    seed: int
    name: str
    sft: dict[str, Any] | None


def plan_runs(settings: SweepSettings) -> list[RunPlan]:
    """Returns all runs: the last factor varies fastest, and the seeds faster still.

    Raises:
      UserError: for a key that the base config lacks, or two runs of one name.
    """
    plans = []
    for levels in itertools.product(*(factor.level_names for factor in settings.factors)):
        for seed in settings.seeds:
            parts = [f"{factor.name}-{level}" for factor, level in zip(settings.factors, levels, strict=True)]
            name = "_".join(re.sub(r"[^\w.+-]+", "", part) for part in [*parts, f"seed-{seed}"])
            plans.append(RunPlan(levels, seed, name, _config(settings, levels, seed)))
    names = [plan.name for plan in plans]
    if len(set(names)) < len(names):
        raise UserError("two runs of the sweep have one name; give the levels labels of letters and digits.")
    return plans


def with_value(values: Any, key: str, value: Any, *, where: str) -> Any:
    """Returns nested sections with the value under a dotted key, whose parts must be there but for the last.

    Raises:
      UserError: for a part that is not there.
    """
    head, _, rest = key.partition(".")
    if isinstance(values, Mapping) and (head in values or not rest):
        return {**values, head: with_value(values[head], rest, value, where=where) if rest else value}
    if isinstance(values, Sequence) and not isinstance(values, str) and head.isdecimal() and int(head) < len(values):
        index = int(head)
        changed = with_value(values[index], rest, value, where=where) if rest else value
        return (*values[:index], changed, *values[index + 1 :])
    raise UserError(f"the key {where!r} of the sweep is not in its base config: there is no {head!r}.")


def _config(settings: SweepSettings, levels: tuple[str, ...], seed: int) -> dict[str, Any] | None:
    """Returns the config of SFT of a run: sources of no weight are left out."""
    config: dict[str, Any] = {**settings.base, "seed": seed}
    for factor, level in zip(settings.factors, levels, strict=True):
        for key, value in factor.changes(level).items():
            config = with_value(config, key, value, where=key)
    sources = config.get("data", {}).get("sources", ())
    kept = tuple(source for source in sources if source.get("weight", 1.0) != 0)
    if sources and not kept:
        return None
    config = with_value(config, "data.sources", kept, where="data.sources")
    if settings.steps_per_weight:
        weight = sum(source.get("weight", 1.0) for source in kept)
        config["num_steps"] = max(1, round(settings.steps_per_weight * weight))
    return config
