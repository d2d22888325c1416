"""All stages: what their sections in a config are, and how a stage is made of its section.

A new stage is a file of this package and a line of `STAGES`. Files are imported when a config names their stage.
"""

import dataclasses
import difflib
import importlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from phi4r.curation.item import Item
from phi4r.curation.shards import read_items
from phi4r.errors import UserError

SEEDS, OUTPUT = "seeds", "output"


@dataclasses.dataclass(frozen=True)
class StageContext:
    """What a stage may be made of besides its settings; it can be sent to other processes.

    Attributes:
      workdir: of the run.
      folder: of the stage's own, which it makes if it needs one: for what it wants to find again when it is made in
        another process, or in a later run.
      shards: files of the items that are its input.
      seed: of all that is drawn.
      generators: name -> section of the config.
      answers: folder of the cache of what generators said.
    """

    workdir: pathlib.Path
    folder: pathlib.Path
    shards: tuple[pathlib.Path, ...] = ()
    seed: int = 0
    generators: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    answers: str = ""

    def read(self) -> Iterator[Item]:
        """Yields all items of the input; each call starts anew."""
        return read_items(self.shards)

    def askers(self) -> Mapping[str, Any]:
        """Returns the generators by name, each behind the cache of its answers; they are opened when they are used."""
        from phi4r.curation.asking.generators import Askers

        return Askers(build_generators(self.generators), self.answers, seed=self.seed)


Maker = Callable[[Any, StageContext], Any]


@dataclasses.dataclass(frozen=True)
class StageEntry:
    """How a stage is made.

    Attributes:
      module: that has its settings, below `phi4r.curation`.
      settings: name of their class there.
      make: returns the stage.
      report: writes more files into the finished folder of the stage: (settings, folder) -> None.
    """

    module: str
    settings: str
    make: Maker
    report: Callable[[Any, pathlib.Path], None] | None = None

    def settings_class(self) -> type:
        """Imports the class of the settings."""
        return getattr(importlib.import_module(f"phi4r.curation.{self.module}"), self.settings)


def entry_of(name: str, where: str) -> StageEntry:
    """Returns the entry of a stage.

    Raises:
      UserError: if there is none of that name, with the nearest that there is.
    """
    if name in STAGES:
        return STAGES[name]
    near = difflib.get_close_matches(name, STAGES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(STAGES)}."
    raise UserError(f"{where}: there is no stage {name!r}; {hint}")


def build_generators(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the settings of generators.

    Raises:
      UserError: for a section with a mistake.
    """
    if not sections:
        return {}
    from phi4r import settings
    from phi4r.curation.asking.generators import GeneratorSettings

    return {
        name: settings.build(GeneratorSettings, section, where=f"config.generators.{name}")
        for name, section in sections.items()
    }


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"phi4r.curation.{module}"), name)


def _plain(module: str, name: str) -> Maker:
    """Returns the maker of a stage that takes its settings and nothing else."""
    return lambda settings, context: _imported(module, name)(settings)


def _asking(module: str, name: str) -> Maker:
    """Returns the maker of a stage that asks generators."""
    return lambda settings, context: _imported(module, name)(settings, context.askers())


def _indexed(module: str, name: str) -> Maker:
    """Returns the maker of a stage that keeps an index in its folder."""
    return lambda settings, context: _imported(module, name)(settings, folder=os.fspath(context.folder))


def _make_seeds(settings: Any, context: StageContext) -> Any:
    return _imported("intake.seeds", "Seeds")(settings, context.workdir / "seeds.sqlite", reserved=STAGES)


def _make_clusters(settings: Any, context: StageContext) -> Any:
    return _imported("mixing.clusters", "make_cluster_stage")(settings, read=context.read)


def _make_output(settings: Any, context: StageContext) -> Any:
    return _imported("mixing.data_sets", "DataSets")(settings, context.workdir)


def _report(name: str) -> Callable[[Any, pathlib.Path], None]:
    """Returns the report of a stage."""
    return lambda settings, folder: _imported("reports", name)(settings, folder)


STAGES: Mapping[str, StageEntry] = {
    SEEDS: StageEntry("intake.seeds", "SeedSettings", _make_seeds),
    "exact_duplicates": StageEntry(
        "intake.duplicates", "ExactSettings", _plain("intake.duplicates", "ExactDuplicates")
    ),
    "near_duplicates": StageEntry("intake.duplicates", "NearSettings", _plain("intake.duplicates", "NearDuplicates")),
    "screens": StageEntry("intake.screens", "ScreenSettings", _plain("intake.screens", "Screens")),
    "teachability": StageEntry(
        "teaching.teachability",
        "TeachabilitySettings",
        _asking("teaching.teachability", "TeachabilityStage"),
        _report("report_teachability"),
    ),
    "rubric": StageEntry(
        "teaching.rubric", "RubricSettings", _asking("teaching.rubric", "RubricStage"), _report("report_rubric")
    ),
    "rewriting": StageEntry("teaching.rewriting", "RewritingSettings", _asking("teaching.rewriting", "RewritingStage")),
    "traces": StageEntry("teaching.traces", "TracesSettings", _asking("teaching.traces", "TracesStage")),
    "solutions": StageEntry("teaching.solutions", "SolutionsSettings", _plain("teaching.solutions", "SolutionsStage")),
    "safety": StageEntry("teaching.safety", "SafetySettings", _asking("teaching.safety", "SafetyStage")),
    "decontamination": StageEntry(
        "overlap.decontamination",
        "DecontaminationSettings",
        _indexed("overlap.decontamination", "Decontamination"),
        _report("report_contamination"),
    ),
    "leakage": StageEntry(
        "overlap.leakage", "LeakageSettings", _indexed("overlap.leakage", "Leakage"), _report("report_leakage")
    ),
    "clusters": StageEntry("mixing.clusters", "ClusterSettings", _make_clusters),
    OUTPUT: StageEntry("mixing.data_sets", "DataSetSettings", _make_output),
}
