"""Where data came from: hashes of files, the version of the code, and what each stage has counted."""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

import phi4r

SUMMARY_FILE = "summary.json"
_STAGE_FOLDER = re.compile(r"\d+-(.+)")
_PIECE = 1 << 20
# What a summary may call its counts: it is read whatever wrote it.
_IN, _OUT, _FAILED = ("in", "num_in", "items_in"), ("out", "num_out", "kept", "items_out"), ("failed", "num_failed")
_REASONS = ("reasons", "dropped", "dropped_reasons")


@dataclasses.dataclass(frozen=True)
class StageCount:
    """What a stage counted.

    Attributes:
      name: of the stage.
      num_in: items that came; None where its summary does not say.
      num_out: items that went on.
      failed: items that it could not decide about.
      reasons: why items were dropped -> how many; of those that failed, "failed: ..." with the reason.
    """

    name: str
    num_in: int | None
    num_out: int | None
    failed: int | None
    reasons: dict[str, int]


def stage_counts(workdir: str | os.PathLike) -> list[StageCount]:
    """Reads WORKDIR/NN-STAGE/summary.json of all stages, in their order; stages without one are left out."""
    counts = []
    for folder in sorted(pathlib.Path(workdir).glob("[0-9]*-*")):
        named = _STAGE_FOLDER.fullmatch(folder.name)
        try:
            summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if named is None or not isinstance(summary, dict):
            continue
        reasons = dict(next((summary[key] for key in _REASONS if isinstance(summary.get(key), Mapping)), {}))
        failures = summary.get("failures")
        reasons |= {f"failed: {key}": value for key, value in failures.items()} if isinstance(failures, Mapping) else {}
        counts.append(
            StageCount(
                named[1],
                _first_number(summary, _IN),
                _first_number(summary, _OUT),
                _first_number(summary, _FAILED),
                {str(reason): number for reason, number in reasons.items() if isinstance(number, int)},
            )
        )
    return counts


def hashes_of(files: Iterable[str | os.PathLike]) -> dict[str, str]:
    """Returns the SHA-256 of each file, read in pieces; "missing" for one that is not there."""
    hashes = {}
    for file in files:
        digest = hashlib.sha256()
        try:
            with open(file, "rb") as opened:
                while piece := opened.read(_PIECE):
                    digest.update(piece)
        except OSError:
            hashes[os.fspath(file)] = "missing"
        else:
            hashes[os.fspath(file)] = digest.hexdigest()
    return hashes


def code_version() -> str:
    """Returns the version of phi4r, and in a checkout its revision and whether files differ from it."""
    root = pathlib.Path(phi4r.__file__).parent.parent
    version = f"phi4r {phi4r.__version__}"
    if not (root / ".git").exists():
        return version
    revision = _git(root, "rev-parse", "HEAD")
    if not revision:
        return version
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{version}, git {revision}{' with changes' if changed else ''}"


def _git(root: pathlib.Path, *command: str) -> str:
    """Returns what git says; nothing where there is no git, or it refuses."""
    try:
        run = subprocess.run(["git", "-C", root, *command], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def _first_number(summary: Mapping[str, Any], keys: Iterable[str]) -> int | None:
    return next((summary[key] for key in keys if isinstance(summary.get(key), int)), None)
