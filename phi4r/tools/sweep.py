"""Trains small SFT runs over a grid of any config keys, evaluates each, and tabulates main effects and their sums.

    phi4r sweep --config=configs/sweep.py --workdir=runs/sweep
    phi4r sweep --config=configs/sweep.py --workdir=runs/sweep --config.seeds="(0, 1, 2)"

Runs are in WORKDIR/runs, a folder each, and the report in WORKDIR/report. The same command started again runs what is
missing. Several machines share a workdir by --config.num_parts=4 --config.part=0, 1, 2 and 3. It is
`python -m phi4r.main` with a config whose experiment is "sweep".
"""

import argparse
import sys

from phi4r.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--config", help="configs/NAME.py or configs/NAME.py:ARG, whose experiment is a sweep")
    parser.add_argument("--workdir", help="folder of the sweep, made if it is missing")
    parser.set_defaults(takes_overrides=True)


def run(args: argparse.Namespace) -> None:
    """Runs the sweep as `phi4r.main` does."""
    if args.config is None or args.workdir is None:
        raise UserError("give --config=configs/NAME.py[:ARG] and --workdir=DIR; see --help.")
    from absl import app

    from phi4r import main

    argv = [sys.argv[0], f"--config={args.config}", f"--workdir={args.workdir}", *args.overrides]
    app.run(main.run_main, argv=argv, flags_parser=main.parse_flags)
