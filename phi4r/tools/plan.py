"""Says whether an experiment fits a machine that is not there, and how fast it can be at best.

  phi4r plan --config=configs/sft_phi4_reasoning.py --topology=v5p:4x4x4
  phi4r plan --config=configs/grpo_phi4_reasoning_plus.py --topology=h100:4x8 --config.mesh.tensor=2 --program=decode

Every program of the experiment is compiled at full size by the compiler of the TPU or GPU, on this machine and
without a device (pip install -e .[tpu] or .[cuda]). Nothing is run: every figure is "compiled, not run".
"""

import argparse
import json
import pathlib
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--config", required=True, help="configs/NAME.py[:ARG]; --config.section.key=value overrides")
    parser.add_argument("--topology", required=True, help="as v5p:4x4x4, v6e:4x4, h100:8, h100:4x8 (hosts x GPUs)")
    parser.add_argument("--hbm_gib", type=float, help="memory of a device (default: what the chip has for programs)")
    parser.add_argument("--program", action="append", help="only this program; may be given more than once")
    parser.add_argument(
        "--search",
        type=int,
        metavar="N",
        default=4,
        help="where something does not fit, compile up to N programs in search of a change that does (default 4)",
    )
    parser.add_argument("--cache", type=pathlib.Path, help="folder of what was compiled (default ~/.cache/phi4r/plan)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(takes_overrides=True)


def run(args: argparse.Namespace) -> None:
    """Plans, and prints program by program.

    Raises:
      UserError: for a topology, mesh or batch that cannot be, or a compiler that is not installed.
    """
    from phi4r.errors import UserError
    from phi4r.planning.cache import default_folder
    from phi4r.planning.compile import compile_program, program_names
    from phi4r.planning.experiment import Experiment, read_experiment
    from phi4r.planning.plan import ProgramPlan, make_plan
    from phi4r.planning.report import change_text, head_text, program_text, step_text, to_json
    from phi4r.planning.search import search
    from phi4r.planning.topologies import CHIPS, parse_topology

    topology = parse_topology(args.topology)
    experiment = read_experiment(args.config, args.overrides)
    if args.hbm_gib is not None and args.hbm_gib <= 0:
        raise UserError(f"--hbm_gib={args.hbm_gib} must be positive.")
    folder, say = args.cache or default_folder(), _quiet if args.json else _say

    def plan_one(experiment: Experiment, name: str) -> ProgramPlan:
        result = compile_program(experiment, topology, name, folder, _watch)
        _clear()
        return make_plan(result, topology, args.hbm_gib)

    plans, change = [], None
    for name in args.program or program_names(experiment, topology, folder):
        plans.append(plan_one(experiment, name))
        if len(plans) == 1:  # nothing is said about an experiment that is refused
            say(head_text(experiment, topology, args.hbm_gib or CHIPS[topology.chip].hbm_gib))
        say(program_text(plans[-1]))
    if not args.program:
        say(step_text(plans))
    if args.search and not all(plan.fits for plan in plans):
        change, tried = search(experiment, plans, topology, plan_one, args.search)
        say(change_text(change, tried))
    if args.json:
        print(json.dumps(to_json(experiment, topology, plans, change), indent=1))


def _say(text: str) -> None:
    """Prints a part of the report; each ends with an empty line."""
    if text:
        print(text, flush=True)


def _quiet(text: str) -> None:
    """Prints nothing: JSON comes in one piece at the end."""


def _watch(program: str, stage: str, seconds: float) -> None:
    """Writes a line of progress over the last one, where someone looks."""
    if sys.stderr.isatty():
        print(f"\r{program}: {stage} {seconds:.0f} s ", end="", file=sys.stderr, flush=True)


def _clear() -> None:
    """Removes the line of progress."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
