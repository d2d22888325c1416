"""Runs an experiment: `python -m phi4r.main --config=configs/NAME.py[:ARG] --workdir=DIR [--config.a.b=VALUE ...]`.

The config file says which experiment it is (`config.experiment`): "sft", "grpo", "evaluate", "curate" or "quickstart".
Any value in it can be overridden by a flag; a key that does not exist is refused. "{workdir}" in a text stands for the
workdir. The resolved config is stored there. Running the same command again resumes. Over several hosts the same
command runs on each, with --coordinator and a workdir that all of them share.

Exit codes: 0 finished; 2 a mistake in the input, or a full disk, told in one line; 75 told to stop by SIGTERM, and the
state is saved: start the same command again; 130 interrupted from the keyboard; 1 a bug of ours, with its traceback.
"""

import errno
import functools
import json
import os
import pathlib
import sys
from typing import Any, NoReturn

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from phi4r.errors import UserError
from phi4r.settings import let_configs_import

# Overrides may name any setting, also those that the config file leaves at their defaults: `build` refuses the others.
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment: configs/NAME.py, or configs/NAME.py:ARG.",
    lock_config=False,
    accept_new_attributes=True,
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    'For a run over several hosts, on each of them: "auto" on TPU slices and under Slurm, or HOST:PORT of the first.',
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator=HOST:PORT: how many processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "With --coordinator=HOST:PORT: which this is, from 0.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, metrics and results; made if missing.")


def run_experiment(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> dict[str, Any]:
    """Runs the experiment that `config` describes and returns its final figures.

    Args:
      config: from a config file; each section becomes a frozen dataclass, and an unknown key is refused.
      workdir: made if missing. A run that was interrupted there is resumed.

    Raises:
      UserError: for a mistake in the config, its paths or its data.
    """
    import jax

    from phi4r.hosts import is_primary, wait_for_all
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
    elif experiment == "curate":
        from phi4r.curation.pipeline import CurateSettings as Settings
        from phi4r.curation.pipeline import run_curate as run
    elif experiment == "sweep":
        from phi4r.curation.sweeping.sweep import run_sweep
        from phi4r.curation.sweeping.sweep_settings import SweepSettings as Settings

        run = functools.partial(run_sweep, run_experiment=run_experiment)
    elif experiment == "quickstart":
        from phi4r.quickstart.run import run_quickstart as run
        from phi4r.quickstart.settings import QuickstartSettings as Settings
    else:
        raise UserError(
            "config.experiment must be 'sft', 'grpo', 'evaluate', 'curate', 'sweep' or 'quickstart', "
            f"not {experiment!r}."
        )
    settings = build(Settings, _fill_workdir(sections, str(workdir)), where="config")
    if jax.process_count() > 1 and experiment not in ("sft", "grpo"):
        raise UserError(f"the experiment {experiment!r} runs on one host; leave --coordinator out.")
    if is_primary():
        prepare_workdir(workdir, config)
    wait_for_all("workdir made")
    return run(settings, workdir)


def _fill_workdir(values: Any, workdir: str) -> Any:
    """Returns nested sections with "{workdir}" replaced in every text."""
    if isinstance(values, dict):
        return {key: _fill_workdir(value, workdir) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(_fill_workdir(value, workdir) for value in values)
    return values.replace("{workdir}", workdir) if isinstance(values, str) else values


def prepare_workdir(workdir: str | os.PathLike, config: ml_collections.ConfigDict) -> None:
    """Makes the workdir and stores the resolved config in it, as config.json.

    A config.json with other values is kept as config.previous.json: whether a run may go on under a changed config is
    for the run to say.

    Raises:
      UserError: if the folder cannot be made or written.
    """
    workdir = pathlib.Path(workdir)
    text = json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"
    partial = workdir / f".config.json.{os.getpid()}"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        partial.write_text(text)
        path = workdir / "config.json"
        if path.exists() and path.read_text() != text:
            path.replace(workdir / "config.previous.json")
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write to workdir {workdir}: {error.strerror}; choose another --workdir.") from error


def parse_flags(argv: list[str]) -> list[str]:
    """Parses flags; anything wrong with them is one line and exit code 2."""
    if {"--help", "-help", "-h"} & set(argv):
        app.usage(shorthelp=True, writeto_stdout=True)
        sys.exit(0)
    let_configs_import()
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is None or _WORKDIR.value is None:
            raise UserError("give --config=configs/NAME.py[:ARG] and --workdir=DIR; see --help.")
        _CONFIG.value.to_dict()  # a missing file is noticed when its values are first looked at
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is not a flag; write overrides as --config.section.key=value.")
    except OSError as error:
        _fail(f"cannot read the config file: {_last_line(error)}")
    except ImportError as error:
        _fail(f"the config file imports what there is not: {error}")
    except (AttributeError, KeyError) as error:  # what looking up a section of the config raises
        _fail(f"an override does not fit the config: {' '.join(map(str, getattr(error.args[0], 'args', error.args)))}")
    except (UserError, flags.Error, TypeError, ValueError) as error:
        # A config file that raises has its traceback in the message, and the reason in the last line.
        _fail(_last_line(error) if "Traceback" in str(error) else str(error))
    return rest


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]


def _fail(message: str, *, code: int = 2) -> NoReturn:
    """Prints the message as one line and exits."""
    print(f"phi4r: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def run_main(_: list[str]) -> None:
    """Runs the experiment of the parsed flags, and ends the process with the exit code that belongs to a failure."""
    from phi4r.train.preemption import EXIT_PREEMPTED, Preempted

    if not flags.FLAGS["verbosity"].present:
        # The libraries' own chatter would hide the progress line; --verbosity=0 shows it.
        logging.set_verbosity(logging.WARNING)
    try:
        if _COORDINATOR.value is not None:
            from phi4r.hosts import join_hosts

            join_hosts(_COORDINATOR.value, num_processes=_NUM_PROCESSES.value, process_id=_PROCESS_ID.value)
        run_experiment(_CONFIG.value, _WORKDIR.value)
    except UserError as error:
        _fail(str(error))
    except Preempted as stopped:
        _fail(str(stopped), code=EXIT_PREEMPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        _fail(
            f"cannot write to {_WORKDIR.value}: the disk is full ({error.strerror}). Make room and start the run "
            "again: it goes on from its last checkpoint."
        )
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    app.run(run_main, flags_parser=parse_flags)
