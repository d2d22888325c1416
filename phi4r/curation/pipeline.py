"""Curation from raw prompts to data sets (section 2 of the paper): one stage after the other, each in its folder.

    WORKDIR/00-seeds  01-exact_duplicates  02-near_duplicates ...   see `phi4r.curation.folder`
    WORKDIR/seeds.sqlite    every seed that was ever imported
    WORKDIR/answers         what generators said: no question is asked twice
    WORKDIR/stages/NAME     what a stage wants to find again
    WORKDIR/replaced        folders of stages that other settings, or another input, have replaced

The life of a run:

1. Each stage has a key: its settings, with the generators and the hashes of the files that they name, and the hash of
   its input. A finished stage of the same key is not run again, but for one whose folder was deleted: that is how to
   try again what was quarantined.
2. Otherwise its input is read shard by shard, and the outcomes are written beside its folder, which they replace when
   they are whole. A run that is killed leaves no half of a stage: started again it begins that stage anew.
3. A stage whose input has changed since is moved to `replaced`, with all after it. So the folders of a workdir always
   belong together: results of other settings are never among them.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import phi4r.settings
from phi4r.curation.engines.beam import BeamSettings, import_beam, run_beam
from phi4r.curation.engines.local import run_local
from phi4r.curation.folder import (
    Result,
    Tally,
    WriteSettings,
    read_summary,
    unfinished,
    write_results,
    write_summary,
)
from phi4r.curation.places import check_places
from phi4r.curation.shards import kept_files
from phi4r.curation.table import OUTPUT, SEEDS, StageContext, build_generators, check_sources, entry_of
from phi4r.errors import UserError
from phi4r.metrics.progress import Progress, duration
from phi4r.settings import first_difference


@dataclasses.dataclass(frozen=True)
class CurateSettings:
    """A run of curation. Which stages it has is section 2 of the paper; none of the numbers here is in it.

    Attributes:
      order: names of the stages, the seeds first.
      stages: name -> section of the stage's settings; what is not in `order` is not run.
      generators: name -> section of a model that stages may ask (`GeneratorSettings`).
      seed: of all that is drawn.
      engine: "local" is one process, "beam" Apache Beam.
      beam: where Beam runs.
      shard_size: items in a file, and what a worker of Beam takes at a time.
      num_examples: items that are shown for each reason.
      on_error: whether rows and items that cannot be used are quarantined, or stop the run.
      only: the one stage to run, after those before it have been finished; empty for all.
      until: the last stage to run; empty for all.
    """

    order: tuple[str, ...]
    stages: dict[str, dict[str, Any]]
    generators: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    seed: int = 0
    engine: Literal["local", "beam"] = "local"
    beam: BeamSettings = dataclasses.field(default_factory=BeamSettings)
    shard_size: int = 4096
    num_examples: int = 5
    on_error: Literal["quarantine", "stop"] = "quarantine"
    only: str = ""
    until: str = ""

    def __post_init__(self):
        if self.shard_size < 1 or self.num_examples < 0:
            raise UserError("config needs shard_size >= 1 and num_examples >= 0.")
        for name in (*self.order, *self.stages):
            entry_of(name, "config.order" if name in self.order else "config.stages")
        if self.order[:1] != (SEEDS,) or self.order.count(SEEDS) != 1:
            raise UserError(f"config.order must begin with {SEEDS!r}, and have it once; it is {list(self.order)}.")
        if OUTPUT in self.order[:-1]:
            raise UserError(f"config.order has stages after {OUTPUT!r}; put it last.")
        if len(set(self.order)) < len(self.order):
            raise UserError(f"config.order has a stage twice: {list(self.order)}.")
        for flag in ("only", "until"):
            if getattr(self, flag) and getattr(self, flag) not in self.order:
                raise UserError(f"config.{flag}={getattr(self, flag)} is not in config.order, {', '.join(self.order)}.")
        if self.only and self.until:
            raise UserError("give only or until, not both.")
        build_generators(self.generators)
        check_sources(self.stage_settings())

    def wanted(self) -> dict[str, Any]:
        """Returns the settings of the stages that are to run, unless they are finished."""
        if self.only:
            names = (self.only,)
        else:
            names = self.order[: self.order.index(self.until) + 1] if self.until else self.order
        settings = self.stage_settings()
        return {name: settings[name] for name in names}

    def stage_settings(self) -> dict[str, Any]:
        """Returns the settings of the stages of `order`.

        Raises:
          UserError: for a section with a mistake.
        """
        classes = {name: entry_of(name, "config.order").settings_class() for name in self.order}
        return {
            name: phi4r.settings.build(cls, self.stages.get(name, {}), where=f"config.stages.{name}")
            for name, cls in classes.items()
        }


def run_curate(settings: CurateSettings, workdir: str | os.PathLike) -> dict[str, Any]:
    """Runs all stages that are not finished.

    Returns:
      The summaries of the stages, by name, as far as the run went.

    Raises:
      UserError: for a file that a later stage will not find, a mistake in the data or a stage, a workdir that cannot be
        written, or a stage before `only` that is not finished.
    """
    if settings.engine == "beam":
        import_beam()
    wanted = settings.wanted()
    generators = build_generators(settings.generators).items()
    asked = {name: one for name, one in generators if any(_mentions(s, name) for s in wanted.values())}
    check_places(wanted, asked)
    workdir = pathlib.Path(workdir)
    run = _Run(settings, workdir)
    run.check_generators(wanted)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to workdir {workdir}: {error.strerror}; choose another --workdir.") from error
    run.put_aside_strangers()
    summaries: dict[str, Any] = {}
    for number, name in enumerate(settings.order):
        is_wanted = settings.only in ("", name)
        summaries[name] = run.run_stage(number) if is_wanted else run.finished(number)
        if name in (settings.only, settings.until):
            break
    return summaries


def make_stage(name: str, settings: Any, context: StageContext) -> Any:
    """Returns the stage of a name, in whatever process this is."""
    return entry_of(name, "config.order").make(settings, context)


class _Run:
    """A run in its workdir."""

    def __init__(self, settings: CurateSettings, workdir: pathlib.Path):
        self._settings, self._workdir = settings, workdir
        self._stages = settings.stage_settings()
        self._folders = [workdir / f"{number:02d}-{name}" for number, name in enumerate(settings.order)]
        self._seeds: tuple[Any, str, int] | None = None  # the stage, the hash of its rows and how many there are

    def finished(self, number: int) -> dict[str, Any]:
        """Returns the summary of a stage that has to be finished, under these settings."""
        name, summary = self._settings.order[number], read_summary(self._folders[number])
        state = "not finished" if summary is None else _difference(summary, self._key(number))
        if state:
            raise UserError(f"--only={self._settings.only}: {name} comes before it: {state}; run --until={name} first.")
        return summary

    def run_stage(self, number: int) -> dict[str, Any]:
        """Runs a stage unless it is finished, and returns its summary."""
        name, folder = self._settings.order[number], self._folders[number]
        key, before = self._key(number), read_summary(folder)
        if before is not None:
            difference = _difference(before, key)
            if not difference:
                print(f"{folder.name}: {_counts_text(before)} (finished before)")
                self._put_aside_after(number, before["output"])
                return before
            print(f"{folder.name}: {difference}; it is run again")
        started = time.monotonic()
        with unfinished(folder) as partial:
            if name == OUTPUT:
                counts, output = self._write_data(number), ""
            else:
                counts, output = self._write_results(number, partial)
            engine = self._settings.engine if number and name != OUTPUT else "local"
            summary = write_summary(partial, name, counts, key=key, output=output, engine=engine, started=started)
        self._put_aside_after(number, output)
        print(f"{folder.name}: {_counts_text(summary)}, {duration(summary['seconds'])}", flush=True)
        return summary

    def check_generators(self, wanted: Collection[str]) -> None:
        """Refuses stages that ask generators which there are not, before the first one has asked for hours."""
        for number, name in enumerate(self._settings.order):
            if name in wanted and entry_of(name, "config.order").asks:
                self._make(number)

    def put_aside_strangers(self) -> None:
        """Moves folders of stages that the order does not have, or has elsewhere."""
        for folder in sorted(self._workdir.glob("[0-9][0-9]-*")):
            if folder.is_dir() and "." not in folder.name and folder not in self._folders:
                self._put_aside(folder)

    def _key(self, number: int) -> dict[str, Any]:
        """Returns what the results of a stage depend on; the stages before it are finished."""
        stage = self._stages[self._settings.order[number]]
        settings = dataclasses.asdict(stage)
        generators = {name: value for name, value in self._settings.generators.items() if _mentions(stage, name)}
        of_input = self._read_seeds()[1] if number == 0 else read_summary(self._folders[number - 1])["output"]
        key = {"settings": settings, "seed": self._settings.seed, "input": of_input}
        if generators:
            key["generators"] = generators
        if number:  # the rows of the seeds are hashed themselves
            key["files"] = {path: _file_hash(path) for path in sorted(set(_files_in([settings, generators])))}
        return json.loads(json.dumps(key))

    def _read_seeds(self) -> tuple[Any, str, int]:
        if self._seeds is None:
            stage = self._make(0)
            self._seeds = (stage, *stage.survey())
        return self._seeds

    def _make(self, number: int) -> Any:
        name = self._settings.order[number]
        return make_stage(name, self._stages[name], self._context(number))

    def _context(self, number: int) -> StageContext:
        settings = self._settings
        return StageContext(
            workdir=self._workdir,
            folder=self._workdir / "stages" / settings.order[number],
            shards=tuple(kept_files(self._folders[number - 1])) if number else (),
            seed=settings.seed,
            generators=settings.generators,
            answers=os.fspath(self._workdir / "answers"),
        )

    def _write_results(self, number: int, partial: pathlib.Path) -> tuple[dict[str, Any], str]:
        """Runs a stage and writes what it gives; returns the counts and the hash of what it kept."""
        settings, name = self._settings, self._settings.order[number]
        scratch = partial / "scratch"
        scratch.mkdir()
        total = read_summary(self._folders[number - 1])["out"] if number else self._read_seeds()[2]
        write = WriteSettings(settings.shard_size, settings.num_examples, settings.on_error == "stop")
        with Progress(name, total=total) as progress:

            def watch(tally: Tally) -> None:
                progress.update(tally.num_in + tally.malformed, kept=tally.num_kept)

            with contextlib.closing(self._results(number, scratch)) as results:
                tally, output = write_results(results, partial, name, write, watch=watch)
        shutil.rmtree(scratch)
        report = entry_of(name, "config.order").report
        if report is not None:
            report(partial, self._make(number), self._stages[name])
        return tally.to_dict(), output

    def _results(self, number: int, scratch: pathlib.Path) -> Iterator[Result]:
        if number == 0:
            return self._read_seeds()[0].results()
        context, name = self._context(number), self._settings.order[number]
        make = functools.partial(make_stage, name, self._stages[name], context)
        if self._settings.engine == "beam":
            return run_beam(make, context.shards, scratch, self._settings.beam)
        return run_local(make, context.shards, scratch)

    def _write_data(self, number: int) -> dict[str, Any]:
        num_items = read_summary(self._folders[number - 1])["out"]
        written = self._make(number).write(self._context(number).read, self._stages)
        return {"in": num_items, "out": num_items - written["neither"], **written}

    def _put_aside_after(self, number: int, output: str) -> None:
        """Moves the folders of later stages, if the next one has had another input."""
        later = [folder for folder in self._folders[number + 1 :] if folder.exists()]
        if later and (read_summary(later[0]) or {}).get("input") != output:
            for folder in later:
                self._put_aside(folder)

    def _put_aside(self, folder: pathlib.Path) -> None:
        target = self._workdir / "replaced" / folder.name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        folder.replace(target)
        print(f"{folder.name}: of other stages before it; moved to {target}")


def _difference(summary: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """Returns in what a finished stage differs from one to be run; empty for nothing."""
    before = {name: summary.get(name) for name in key}
    if "generators" not in key and summary.get("generators"):
        before["generators"] = summary["generators"]
    difference = first_difference(before, key)
    if difference is None:
        return ""
    name, old, new = difference
    if name == "input":
        return "its input has changed"
    if name.startswith("files"):
        return f"the file {name.removeprefix('files.')} has changed"
    return f"{name} was {old!r} and is now {new!r}"


def _mentions(settings: Any, generator: str) -> bool:
    """Whether the name of a generator is among the texts in the settings of a stage."""
    return generator in _texts_in(dataclasses.asdict(settings))


def _files_in(value: Any) -> Iterator[str]:
    """Yields the texts in nested settings that are files, or name one behind a colon, as "file:PATH?fields=prompt"."""
    for text in _texts_in(value):
        for path in (text, text.partition("?")[0].partition(":")[2]):
            if os.path.isfile(path):
                yield path


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(inner)
    elif isinstance(value, str):
        yield value


def _file_hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _counts_text(summary: Mapping[str, Any]) -> str:
    """Returns the counts of a summary as words for a terminal."""
    text = f"{summary['in']:,} in, {summary['out']:,} kept"
    reasons = [f"{reason} {number:,}" for reason, number in summary.get("reasons", {}).items()]
    if reasons:
        text += f", {summary['dropped']:,} dropped ({', '.join(reasons)})"
    if quarantined := summary.get("failed", 0) + summary.get("malformed", 0):
        text += f", {quarantined:,} quarantined"
    return text
