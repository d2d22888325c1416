"""The engine for a cluster: the same stages on Apache Beam, by any of its runners.

    1. A worker takes a shard of items. It decides about them batch by batch (ItemStage), or names the keys of each.
    2. For a GroupStage, Beam brings the digests of each key together; they are judged, and the verdicts on the items of
       a shard brought back to it.
    3. A worker writes the outcomes of a shard into a file, in the order of its items; the program that started the
       pipeline reads these files one after the other.

So the outcomes, and their order, are those of `phi4r.curation.engines.local`. Every worker makes the stage for itself,
from its settings. Files are opened by Beam's file systems: `scratch` may be a bucket.
"""

import contextlib
import dataclasses
import json
import logging
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from phi4r.curation.engines.grouping import (
    Member,
    Verdict,
    digest_to_dict,
    is_large_enough,
    judge_group,
    keys_of,
    outcome_from_dict,
    outcome_to_dict,
    settle,
)
from phi4r.curation.engines.local import run_items
from phi4r.curation.item import Item
from phi4r.curation.shards import items_of_lines, json_line
from phi4r.curation.stage import GroupStage, Outcome, Stage
from phi4r.errors import UserError
from phi4r.metrics.progress import Progress

_POLL_S = 1.0
_ERROR_FILE = "error.txt"


@dataclasses.dataclass(frozen=True)
class BeamSettings:
    """Where a pipeline runs; none of it is in the paper. Workers need phi4r installed.

    Attributes:
      runner: as Beam calls it: "DirectRunner" (this machine), "DataflowRunner", "FlinkRunner", "SparkRunner", ...
      options: of Beam and the runner, as ("--direct_num_workers=2", "--direct_running_mode=multi_processing").
      scratch: folder that all workers can read and write, as "gs://bucket/scratch"; empty for one in the workdir, which
        they then have to share.
    """

    runner: str = "DirectRunner"
    options: tuple[str, ...] = ()
    scratch: str = ""


def run_beam(
    make: Callable[[], Stage],
    shards: Sequence[str | os.PathLike],
    scratch: str | os.PathLike,
    settings: BeamSettings,
) -> Iterator[Outcome]:
    """Yields the outcome of every item, in the order of the items.

    Args:
      make: makes the stage, here and in every worker; it travels there by Beam's pickler.
      shards: files of items.
      scratch: an empty folder of this machine.
      settings: where to run.

    Raises:
      UserError: as the stage, and without Apache Beam.
    """
    files = import_beam().io.filesystems.FileSystems
    scratch = settings.scratch or os.fspath(scratch)
    paths = [os.fspath(path) for path in shards]
    if settings.scratch:
        folder = files.join(scratch, f"phi4r-{os.urandom(8).hex()}")
        files.mkdirs(folder)
        paths = [_copied(files, path, files.join(folder, pathlib.Path(path).name)) for path in paths]
        scratch = folder
    stage = _Made(make)
    try:
        _run_pipeline(stage, paths, scratch, settings)
        for number in range(len(paths)):
            with files.open(_outcomes_file(scratch, number)) as lines:
                yield from (outcome_from_dict(json.loads(line)) for line in lines)
    finally:
        if settings.scratch:
            files.delete([scratch])


def import_beam() -> Any:
    """Returns the module apache_beam.

    Raises:
      UserError: if it is not installed.
    """
    try:
        with _quiet_imports():
            import apache_beam
            import apache_beam.io.filesystems
            import apache_beam.options.pipeline_options
    except ImportError as error:
        raise UserError("config.engine='beam' needs Apache Beam: pip install -e '.[beam]'.") from error
    return apache_beam


class _Made:
    """The stage, made where it is first used; only how to make it travels to workers."""

    def __init__(self, make: Callable[[], Stage]):
        self._make, self._stage = make, None

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_stage": None}

    def get(self) -> Stage:
        if self._stage is None:
            self._stage = self._make()
        return self._stage


def _run_pipeline(stage: _Made, paths: Sequence[str], scratch: str, settings: BeamSettings) -> None:
    """Runs the pipeline to its end, and shows how many shards are done."""
    beam = import_beam()
    options = beam.options.pipeline_options.PipelineOptions(list(settings.options), runner=settings.runner)
    pipeline = beam.Pipeline(options=options)
    shards = pipeline | beam.Create(list(enumerate(paths))) | beam.Reshuffle()
    if isinstance(stage.get(), GroupStage):
        verdicts = (
            shards
            | "keys" >> beam.FlatMap(_keys_of_shard, stage, scratch)
            | "groups" >> beam.GroupByKey()
            | "judge" >> beam.FlatMap(_judge, stage, scratch)
        )
        {"path": shards, "verdicts": verdicts} | beam.CoGroupByKey() | "settle" >> beam.Map(_settle, stage, scratch)
    else:
        shards | "decide" >> beam.Map(_decide, stage, scratch)
    _watch(pipeline, stage.get().name, len(paths), scratch, settings.runner)


def _watch(pipeline: Any, name: str, num_shards: int, scratch: str, runner: str) -> None:
    """Waits for the pipeline, and shows how many of its shards are written.

    Raises:
      UserError: the one that ended a worker.
    """
    files = import_beam().io.filesystems.FileSystems
    failures: list[BaseException] = []

    def work() -> None:
        try:
            pipeline.run().wait_until_finish()
        except BaseException as error:  # raised again by the thread that waits
            failures.append(error)

    worker = threading.Thread(target=work, name="beam", daemon=True)
    worker.start()
    with Progress(f"{name} on {runner}: shard", total=num_shards) as progress:
        while worker.is_alive():
            worker.join(_POLL_S)
            with contextlib.suppress(Exception):  # a look that fails says nothing of the pipeline
                progress.update(len(files.match([files.join(scratch, "outcomes-*")])[0].metadata_list))
    if failures:
        told = files.join(scratch, _ERROR_FILE)
        if files.exists(told):
            with files.open(told) as file:
                raise UserError(file.read().decode()) from failures[0]
        raise failures[0]


# What workers do. An element is (number of the shard, path of the shard), or a key with its members.


def _decide(shard: tuple[int, str], stage: _Made, scratch: str) -> None:
    number, path = shard
    with _telling(scratch):
        _write_outcomes(scratch, number, run_items(stage.get(), _read(path)))


def _keys_of_shard(shard: tuple[int, str], stage: _Made, scratch: str) -> Iterator[tuple[str, tuple]]:
    number, path = shard
    with _telling(scratch):
        for position, item in enumerate(_read(path)):
            digest = digest_to_dict(stage.get().digest(item))
            yield from ((key, (number, position, digest)) for key in keys_of(stage.get(), item))


def _judge(group: tuple[str, Iterable[tuple]], stage: _Made, scratch: str) -> Iterator[tuple[int, tuple]]:
    key, values = group
    members = [Member((number, position), Item(**digest)) for number, position, digest in values]
    if is_large_enough(stage.get(), len(members)):
        with _telling(scratch):
            for (number, position), verdict in judge_group(stage.get(), key, members):
                yield number, (position, tuple(verdict))


def _settle(shard: tuple[int, dict[str, Iterable]], stage: _Made, scratch: str) -> None:
    number, found = shard
    verdicts: dict[int, Verdict] = {}
    for position, values in found["verdicts"]:
        verdict = Verdict(*values)
        verdicts[position] = min(verdicts.get(position, verdict), verdict, key=lambda v: v.rank)
    [path] = found["path"]
    with _telling(scratch):
        items = enumerate(_read(path))
        _write_outcomes(scratch, number, (settle(stage.get(), item, verdicts.get(i)) for i, item in items))


def _read(path: str) -> Iterator[Item]:
    with import_beam().io.filesystems.FileSystems.open(path) as lines:
        yield from items_of_lines(lines, path)


def _write_outcomes(scratch: str, number: int, outcomes: Iterable[Outcome]) -> None:
    """Writes the file of a shard; it has its name when it is whole, also where a shard is done twice."""
    files = import_beam().io.filesystems.FileSystems
    partial = files.join(scratch, f"partial-{os.urandom(8).hex()}")
    with files.create(partial) as file:
        for outcome in outcomes:
            file.write(json_line(outcome_to_dict(outcome)))
    files.rename([partial], [_outcomes_file(scratch, number)])


@contextlib.contextmanager
def _telling(scratch: str) -> Iterator[None]:
    """Leaves the message of a UserError where the program that started the pipeline finds it."""
    try:
        yield
    except UserError as error:
        files = import_beam().io.filesystems.FileSystems
        with files.create(files.join(scratch, _ERROR_FILE)) as file:
            file.write(str(error).encode(errors="replace"))
        raise


def _outcomes_file(scratch: str, number: int) -> str:
    return import_beam().io.filesystems.FileSystems.join(scratch, f"outcomes-{number:05d}.jsonl")


def _copied(files: Any, path: str, target: str) -> str:
    """Copies a file of this machine to where the workers can read it."""
    with open(path, "rb") as source, files.create(target) as copy:
        while piece := source.read(1 << 20):
            copy.write(piece)
    return target


@contextlib.contextmanager
def _quiet_imports() -> Iterator[None]:
    """Keeps back what Beam says on import about clients of clouds that are not installed."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(before)
