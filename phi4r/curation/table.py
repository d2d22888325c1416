"""All stages: what their sections in a config are, and how a stage is made of its section.

A new stage is a file of this package and a line of `STAGES`. Files are imported when a config names their stage.
"""

import dataclasses
import difflib
import importlib
import operator
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
Report = Callable[[pathlib.Path, Any, Any], None]


@dataclasses.dataclass(frozen=True)
class StageEntry:
    """How a stage is made.

    Attributes:
      module: that has its settings, below `phi4r.curation`.
      settings: name of their class there.
      make: returns the stage.
      report: writes more files into the folder of what the stage gave: (folder, stage, settings) -> None.
      of_sources: dotted name of the setting that lists names of sources (or is None), if there is one.
      asks: whether it asks generators; then it can be made, and refuse those that there are not, without its input.
    """

    module: str
    settings: str
    make: Maker
    report: Report | None = None
    of_sources: str = ""
    asks: bool = False

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


def check_sources(stages: Mapping[str, Any]) -> None:
    """Refuses settings that name a source that the seeds do not have.

    Args:
      stages: name -> settings, those of the seeds among them.

    Raises:
      UserError: for the first such name, with the nearest that there is.
    """
    known = stages[SEEDS].sources
    for stage, settings in stages.items():
        field = STAGES[stage].of_sources
        for name in (operator.attrgetter(field)(settings) or ()) if field else ():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
                raise UserError(f"config.stages.{stage}.{field}: there is no source {name!r}; {hint}")


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


def _make_seeds(settings: Any, context: StageContext) -> Any:
    return _imported("intake.seeds", "Seeds")(settings, context.workdir / "seeds.sqlite", reserved=STAGES)


def _make_clusters(settings: Any, context: StageContext) -> Any:
    return _imported("mixing.clusters", "make_cluster_stage")(settings, read=context.read)


def _make_held_out(settings: Any, context: StageContext) -> Any:
    make = _imported("overlap.held_out", "HeldOut")
    return make(settings, shards=context.shards, folder=context.folder)


def _make_output(settings: Any, context: StageContext) -> Any:
    return _imported("mixing.data_sets", "DataSets")(settings, context.workdir)


def _report(name: str) -> Report:
    """Returns the report of a stage."""
    return lambda folder, stage, settings: _imported("reports", name)(folder, stage, settings)


def _asking(file: str, name: str, *, report: str = "", of_sources: str = "") -> StageEntry:
    """Returns the entry of a stage that asks generators, `NAMEStage` of a file of `teaching`."""
    module = f"teaching.{file}"

    def make(settings: Any, context: StageContext) -> Any:
        return _imported(module, f"{name}Stage")(settings, context.askers())

    return StageEntry(module, f"{name}Settings", make, _report(report) if report else None, of_sources, asks=True)


def _decontamination(name: str) -> StageEntry:
    """Returns the entry of decontamination under a name."""
    module = "overlap.decontamination"

    def make(settings: Any, context: StageContext) -> Any:
        return _imported(module, "Decontamination")(settings, name=name, folder=context.folder)

    return StageEntry(module, "DecontaminationSettings", make, _report("report_overlaps"))


STAGES: Mapping[str, StageEntry] = {
    SEEDS: StageEntry("intake.seeds", "SeedSettings", _make_seeds),
    "exact_duplicates": StageEntry(
        "intake.duplicates",
        "ExactSettings",
        _plain("intake.duplicates", "ExactDuplicates"),
        of_sources="prefer",
    ),
    "near_duplicates": StageEntry(
        "intake.duplicates", "NearSettings", _plain("intake.duplicates", "NearDuplicates"), of_sources="prefer"
    ),
    "screens": StageEntry("intake.screens", "ScreenSettings", _plain("intake.screens", "Screens")),
    "teachability": _asking("teachability", "Teachability", report="report_teachability"),
    "rubric": _asking("rubric", "Rubric", report="report_rubric"),
    "rewriting": _asking("rewriting", "Rewriting"),
    "traces": _asking("traces", "Traces"),
    "solutions": StageEntry(
        "teaching.solutions", "SolutionsSettings", _plain("teaching.solutions", "SolutionsStage"), of_sources="sources"
    ),
    "safety": _asking("safety", "Safety", of_sources="sources"),
    "decontamination": _decontamination("decontamination"),
    "final_decontamination": _decontamination("final_decontamination"),
    "held_out": StageEntry("overlap.held_out", "HeldOutSettings", _make_held_out, _report("report_overlaps")),
    "clusters": StageEntry("mixing.clusters", "ClusterSettings", _make_clusters),
    OUTPUT: StageEntry("mixing.data_sets", "DataSetSettings", _make_output, of_sources="data.problem_sources"),
}
