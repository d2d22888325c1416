"""Evaluates a model folder, or a model that a server has, on one benchmark or a whole suite.

    phi4r evaluate --config=configs/eval_reasoning.py --workdir=runs/eval --config.model=runs/grpo/params
    phi4r evaluate --config=configs/eval_reasoning.py:suite --workdir=runs/suite --config.model=runs/grpo/params
    phi4r evaluate --config=configs/eval_reasoning.py:endpoint --workdir=runs/served --config.task="maze tsp" \
        --config.endpoint.base_url=http://localhost:8000/v1 --config.endpoint.model=phi-4-reasoning

`--config.task` names one task or several, with blanks between them (`phi4r evaluate --tasks` lists them). The same
command started again goes on where it stopped. It is `python -m phi4r.main` with a config whose experiment is
"evaluate". Then: `phi4r report WORKDIR`.
"""

import argparse
import sys

from phi4r.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of the command."""
    parser.add_argument("--config", help="configs/NAME.py or configs/NAME.py:ARG, whose experiment is an evaluation")
    parser.add_argument("--workdir", help="folder of the evaluation, made if it is missing")
    parser.add_argument("--tasks", action="store_true", help="list all tasks, and end")
    parser.set_defaults(takes_overrides=True)


def run(args: argparse.Namespace) -> None:
    """Lists tasks, or runs the evaluation as `phi4r.main` does."""
    if args.tasks:
        print(tasks_text())
        return
    if args.config is None or args.workdir is None:
        raise UserError("give --config=configs/NAME.py[:ARG] and --workdir=DIR, or --tasks; see --help.")
    from absl import app

    from phi4r import main

    argv = [sys.argv[0], f"--config={args.config}", f"--workdir={args.workdir}", *args.overrides]
    app.run(main.run_main, argv=argv, flags_parser=main.parse_flags)


def tasks_text() -> str:
    """Returns all tasks with their sizes and sources, a line each."""
    from phi4r.evals.benchmarks.table import BENCHMARKS
    from phi4r.evals.puzzles.table import PUZZLES

    lines = ["published sets, NAME[:FILE-OR-FOLDER]; without a place they are downloaded from the Hugging Face Hub:"]
    for name, benchmark in BENCHMARKS.items():
        size = "" if benchmark.num_items is None else f"{benchmark.num_items} problems, "
        source = f"{benchmark.hub} ({benchmark.licence})" if benchmark.hub else f"a file of yours ({benchmark.licence})"
        lines.append(f"  {name:<20}{benchmark.title}: {size}{benchmark.num_runs} runs, {source}")
    lines.append("generated, NAME[?num=..&seed=..&split=train|dev|test&..]:")
    for name, puzzle in PUZZLES.items():
        parameters = "&".join(f"{key}={value}" for key, value in puzzle.parameters.items())
        lines.append(f"  {name:<20}{puzzle.title}: {puzzle.num_items} problems, {puzzle.num_runs} runs, ?{parameters}")
    lines.append("others: chains:SPLIT?num=..&min_ops=..&max_ops=.. (the quickstart's), jsonl:FILE (prompt, answer)")
    return "\n".join(lines)
