"""The folder of a stage, WORKDIR/NN-STAGE, which is there whole or not at all.

    kept-00000.jsonl ...   the items that go on, in files of equal size
    dropped.jsonl          {"item", "reason"} of each that does not
    quarantine.jsonl       {"where", "reason", "item"} of rows that are no item, and of items that could not be decided
    summary.json           counts, by reason and by source; the settings; hashes of settings, input and output; versions
    examples.md            some items that were kept, and some of each reason

It is written beside its place, and moved there when it is finished.
"""

import collections
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import phi4r
from phi4r.curation.examples import Examples
from phi4r.curation.shards import ShardWriter, json_line
from phi4r.curation.stage import KEPT, Outcome
from phi4r.data.records import write_json
from phi4r.errors import UserError

SUMMARY_FILE, EXAMPLES_FILE = "summary.json", "examples.md"
DROPPED_FILE, QUARANTINE_FILE = "dropped.jsonl", "quarantine.jsonl"
_MALFORMED_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Malformed:
    """A row that is no item.

    Attributes:
      where: file and line.
      reason: what is wrong with it.
      source: that it belongs to.
    """

    where: str
    reason: str
    source: str


Result = Outcome | Malformed


class Tally:
    """Counts of a stage."""

    def __init__(self):
        self.num_in = 0
        self.malformed = 0
        self.reasons: collections.Counter[str] = collections.Counter()  # of items that were dropped
        self.failures: collections.Counter[str] = collections.Counter()  # of items that could not be decided
        self.sources: dict[str, collections.Counter[str]] = {}

    def add(self, result: Result) -> None:
        """Counts a result."""
        of_source = self.sources.setdefault(
            result.source if isinstance(result, Malformed) else result.item.source, collections.Counter()
        )
        if isinstance(result, Malformed):
            self.malformed += 1
            of_source["malformed"] += 1
            return
        self.num_in += 1
        kind = "kept" if result.kept else "failed" if result.failed else "dropped"
        of_source["in"] += 1
        of_source[kind] += 1
        if not result.kept:
            (self.failures if result.failed else self.reasons)[result.reason] += 1

    @property
    def num_kept(self) -> int:
        """Items that go on."""
        return self.num_in - sum(self.reasons.values()) - sum(self.failures.values())

    def to_dict(self) -> dict[str, Any]:
        """Returns all counts as JSON values."""
        return {
            "in": self.num_in,
            "out": self.num_kept,
            "dropped": sum(self.reasons.values()),
            "failed": sum(self.failures.values()),
            "malformed": self.malformed,
            "reasons": dict(sorted(self.reasons.items())),
            "failures": dict(sorted(self.failures.items())),
            "sources": {
                source: {kind: counts[kind] for kind in ("in", "kept", "dropped", "failed", "malformed")}
                for source, counts in sorted(self.sources.items())
            },
        }


@dataclasses.dataclass(frozen=True)
class WriteSettings:
    """How results are written.

    Attributes:
      shard_size: items in a file.
      num_examples: items shown for each reason.
      stop: whether a malformed row or a failed item ends the run.
    """

    shard_size: int
    num_examples: int
    stop: bool


def write_results(
    results: Iterable[Result],
    folder: pathlib.Path,
    stage: str,
    settings: WriteSettings,
    *,
    watch: Callable[[Tally], None] = lambda tally: None,
) -> tuple[Tally, str]:
    """Writes all but the summary of a stage into a folder that exists.

    Args:
      results: in the order in which they are written.
      folder: that is not finished.
      stage: its name.
      settings: how.
      watch: is called after each result.

    Returns:
      The counts, and the hash of the kept items.

    Raises:
      UserError: for the first row that is no item, or item that could not be decided, where these stop the run.
    """
    tally, examples, malformed = Tally(), Examples(stage, settings.num_examples), {}
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(contextlib.closing(ShardWriter(folder, settings.shard_size)))
        dropped = stack.enter_context((folder / DROPPED_FILE).open("wb"))
        quarantine = stack.enter_context((folder / QUARANTINE_FILE).open("wb"))
        for result in results:
            if settings.stop:
                _refuse(result, stage)
            tally.add(result)
            if isinstance(result, Malformed):
                quarantine.write(json_line({"where": result.where, "reason": result.reason, "item": None}))
                if len(malformed) < _MALFORMED_SHOWN:
                    malformed[result.where] = result.reason
            else:
                _write_outcome(result, kept, dropped, quarantine)
                examples.add(result.item, result.reason)
            watch(tally)
    counts = tally.reasons + tally.failures + collections.Counter({KEPT: tally.num_kept})
    (folder / EXAMPLES_FILE).write_text(examples.markdown(counts, malformed), encoding="utf-8")
    return tally, kept.digest


def _write_outcome(outcome: Outcome, kept: ShardWriter, dropped: BinaryIO, quarantine: BinaryIO) -> None:
    if outcome.kept:
        kept.write(outcome.item)
    elif outcome.failed:
        row = {"where": outcome.item.id, "reason": outcome.reason, "item": outcome.item.to_dict()}
        quarantine.write(json_line(row))
    else:
        dropped.write(json_line({"item": outcome.item.to_dict(), "reason": outcome.reason}))


def _refuse(result: Result, stage: str) -> None:
    mend = "mend it, or go on without it by --config.on_error=quarantine."
    if isinstance(result, Malformed):
        raise UserError(f"{stage}: {result.reason.rstrip('.')} ({result.where}); {mend}")
    if result.failed:
        raise UserError(f"{stage}: item {result.item.id}: {result.reason}; {mend}")


@contextlib.contextmanager
def unfinished(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives an empty folder beside `folder` that takes its place if the block ends well.

    What was in `folder` stays there until then. What a killed run left beside it is deleted.

    Raises:
      UserError: if it cannot be made.
    """
    partial, old = (folder.with_name(f"{folder.name}.{kind}") for kind in ("partial", "old"))
    try:
        for path in (partial, old):
            if path.exists():
                shutil.rmtree(path)
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; choose another --workdir.") from error
    yield partial
    if folder.exists():
        folder.replace(old)
    partial.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def read_summary(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the summary of a finished stage; None where there is none that can be read."""
    try:
        summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) else None


def write_summary(
    folder: pathlib.Path,
    stage: str,
    counts: Mapping[str, Any],
    *,
    key: Mapping[str, Any],
    output: str,
    engine: str,
    started: float,
) -> dict[str, Any]:
    """Writes and returns the summary of a stage.

    Args:
      folder: of the stage.
      stage: its name.
      counts: what it counted.
      key: what its results depend on.
      output: hash of what it kept.
      engine: that ran it.
      started: when, as `time.monotonic` tells it.
    """
    summary = {
        "stage": stage,
        **counts,
        "seconds": round(time.monotonic() - started, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **key,
        "key": hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest(),
        "output": output,
        "engine": engine,
        "versions": {
            "phi4r": phi4r.__version__,
            "python": platform.python_version(),
            **{name: version for name in ("numpy", "datasketch", "py3langid") if (version := _version(name))},
        },
    }
    write_json(folder / SUMMARY_FILE, summary)
    return summary


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
