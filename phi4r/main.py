"""Runs an experiment: `python -m phi4r.main --config=configs/NAME.py[:ARG] --workdir=DIR [--config.a.b=VALUE ...]`.

The config file says which experiment it is (`config.experiment`): "sft", "grpo" or "evaluate". Any value in it can be
overridden by a flag; a key that does not exist is refused. The resolved config is stored in the workdir. Running the
same command again resumes.
"""

import contextlib
import json
import os
import pathlib
import sys
from typing import Any

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from phi4r.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "The experiment: configs/NAME.py, or configs/NAME.py:ARG.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, metrics and results; made if missing.")


def run_experiment(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> dict[str, Any]:
    """Runs the experiment that `config` describes and returns its final figures.

    Args:
      config: from a config file; each section becomes a frozen dataclass, and an unknown key is refused.
      workdir: made if missing. A run that was interrupted there is resumed.

    Raises:
      UserError: for a mistake in the config, its paths or its data.
    """
    from phi4r.settings import build

    sections = config.to_dict()
    experiment = sections.pop("experiment", None)
    if experiment == "sft":
        from phi4r.train.sft import SftSettings as Settings
        from phi4r.train.sft import run_sft as run
    elif experiment == "grpo":
        from phi4r.rl.train import GrpoRunSettings as Settings
        from phi4r.rl.train import run_grpo as run
    elif experiment == "evaluate":
        from phi4r.evals.experiment import EvalSettings as Settings
        from phi4r.evals.experiment import run_evaluate as run
    else:
        raise UserError(f"config.experiment must be 'sft', 'grpo' or 'evaluate', not {experiment!r}.")
    settings = build(Settings, sections, where="config")
    workdir = prepare_workdir(workdir, config)
    return run(settings, workdir)


def prepare_workdir(workdir: str | os.PathLike, config: ml_collections.ConfigDict) -> pathlib.Path:
    """Makes the workdir and stores the resolved config in it.

    Raises:
      UserError: if the folder cannot be made or written.
    """
    workdir = pathlib.Path(workdir)
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
    partial = workdir / f".config.json.{os.getpid()}"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        partial.write_text(text)
        partial.replace(workdir / "config.json")
    except OSError as error:
        raise UserError(f"cannot write to workdir {workdir}: {error.strerror}; choose another --workdir.") from error
    return workdir


def _parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; anything wrong with them is one line and exit code 2."""
    try:
        # A misspelt override of the config raises whatever its type raises, and a bad config file what Python raises.
        rest = flags.FLAGS(argv)
        if _CONFIG.value is None or _WORKDIR.value is None:
            raise UserError("give --config=configs/NAME.py[:ARG] and --workdir=DIR; see --help.")
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is not a flag; write overrides as --config.section.key=value.")
    except (UserError, flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        _fail(error)
    return rest


def _fail(error: Exception) -> None:
    """Prints the error as one line and exits with code 2."""
    message = " ".join(str(error).strip("'\"").split())
    print(f"phi4r: {message}", file=sys.stderr)
    sys.exit(2)


def _main(_: list[str]) -> None:
    try:
        with contextlib.suppress(KeyboardInterrupt):
            run_experiment(_CONFIG.value, _WORKDIR.value)
    except UserError as error:
        _fail(error)


if __name__ == "__main__":
    app.run(_main, flags_parser=_parse_flags)
