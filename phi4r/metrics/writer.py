"""Where numbers go: one JSON object a line in metrics.jsonl, and TensorBoard beside it.

The JSONL file is the record: reports read it and tests compare it. TensorBoard is a view for the browser.
"""

import contextlib
import json
import math
import os
import pathlib
from collections.abc import Mapping

from phi4r.errors import UserError
from phi4r.metrics.board import Board

FILE_NAME = "metrics.jsonl"


class MetricWriter:
    """Appends `{"step": n, ...}` lines to WORKDIR/metrics.jsonl and the same scalars to WORKDIR/tensorboard.

    Every line is flushed, so a killed run loses none of them. A run that resumes at step n passes `resume_step=n`:
    what the lost steps after n had written is cut off, and the file reads like that of an uninterrupted run.
    """

    def __init__(self, workdir: str | os.PathLike, *, resume_step: int | None = None, enabled: bool = True) -> None:
        """Opens the files.

        Args:
          workdir: made if it is missing.
          resume_step: keep the lines up to this step and drop later ones; None keeps all.
          enabled: whether this process writes; false on all hosts but the first.

        Raises:
          UserError: if the folder cannot be made or written.
        """
        self._file = self._board = None
        if not enabled:
            return
        workdir = pathlib.Path(workdir)
        path = workdir / FILE_NAME
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            if path.exists():
                _keep_lines(path, resume_step)
            self._file = path.open("a", encoding="utf-8")
            purge = None if resume_step is None else resume_step + 1
            self._board = Board(workdir / "tensorboard", purge_step=purge)
        except OSError as error:
            raise UserError(
                f"cannot write metrics to {workdir}: {error.strerror}; choose another --workdir."
            ) from error

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the scalars of one step; a value that is not finite becomes null, and no point in TensorBoard."""
        if self._file is None:
            return
        scalars = {name: float(value) for name, value in metrics.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        self._file.write(json.dumps({"step": int(step), **finite}) + "\n")
        self._file.flush()
        self._board.write(int(step), {name: value for name, value in finite.items() if value is not None})

    def close(self) -> None:
        """Closes the files; further writes are an error."""
        for file in (self._file, self._board):
            if file is not None:
                with contextlib.suppress(OSError):  # of a full disk, which the last write has told of
                    file.close()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exc) -> None:
        self.close()


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
    """Reads metrics.jsonl, or the one in the folder `path`: a dict for each line, in file order; null reads as nan.

    Raises:
      UserError: if there is no such file.
    """
    path = pathlib.Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.exists():
        raise UserError(f"there are no metrics at {path}; has the run started?")
    return [
        {name: math.nan if value is None else value for name, value in line.items()}
        for line in map(_parse, path.read_text(encoding="utf-8").splitlines())
        if line is not None
    ]


def _keep_lines(path: pathlib.Path, last_step: int | None) -> None:
    """Rewrites the file without lines after `last_step` and without a line that a killed run left half-written."""
    text = path.read_text(encoding="utf-8")
    kept = []
    for line in text.splitlines(keepends=True):
        parsed = _parse(line)
        if parsed is not None and (last_step is None or parsed["step"] <= last_step):
            kept.append(line)
    if "".join(kept) != text:
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(kept), encoding="utf-8")
        partial.replace(path)


def _parse(line: str) -> dict | None:
    """Returns the object of one line, or None for a line cut short by a kill."""
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
