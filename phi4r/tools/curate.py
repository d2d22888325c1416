"""Makes training data from raw prompts, stage by stage.

    phi4r curate --config=configs/curate.py --workdir=runs/curate
    phi4r curate --config=configs/curate.py --workdir=runs/curate --until=screens
    phi4r curate --config=configs/curate.py --workdir=runs/curate --only=screens --config.stages.screens.min_words=8
    phi4r curate --stages

Every stage has a folder in the workdir, with the items that it kept and dropped, a table of examples, and counts. The
same command started again goes on after the last stage that was finished; a stage whose settings have changed is run
again, and so is what comes after it. It is `python -m phi4r.main` with a config whose experiment is "curate".
"""

import argparse
import dataclasses
import inspect
import sys

from phi4r.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--config", help="configs/NAME.py or configs/NAME.py:ARG, whose experiment is curation")
    parser.add_argument("--workdir", help="folder of the run, made if it is missing")
    parser.add_argument("--only", metavar="STAGE", help="run this stage alone; those before it must be finished")
    parser.add_argument("--until", metavar="STAGE", help="run up to this stage")
    parser.add_argument("--stages", action="store_true", help="list all stages with their settings, and end")
    parser.set_defaults(takes_overrides=True)


def run(args: argparse.Namespace) -> None:
    """Lists stages, or runs the curation as `phi4r.main` does."""
    if args.stages:
        print(stages_text())
        return
    if args.config is None or args.workdir is None:
        raise UserError("give --config=configs/NAME.py[:ARG] and --workdir=DIR, or --stages; see --help.")
    from absl import app

    from phi4r import main

    part = [f"--config.{flag}={value}" for flag in ("only", "until") if (value := getattr(args, flag))]
    # The flag of the config looks for overrides there, whatever it is given.
    sys.argv = [sys.argv[0], f"--config={args.config}", f"--workdir={args.workdir}", *part, *args.overrides]
    app.run(main.run_main, argv=sys.argv, flags_parser=main.parse_flags)


def stages_text() -> str:
    """Returns all stages with the names of their settings, a paragraph each."""
    from phi4r.curation.table import STAGES

    parts = []
    for name, entry in STAGES.items():
        settings = entry.settings_class()
        fields = ", ".join(field.name for field in dataclasses.fields(settings))
        parts.append(f"{name}\n    {inspect.getdoc(settings).splitlines()[0]}\n    config.stages.{name}: {fields}")
    return "\n".join(parts)
