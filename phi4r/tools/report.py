"""Writes a report of evaluations, from their stored responses alone: one HTML page, figures and tables.

A DIR is a folder of `phi4r evaluate`, with a subfolder for each task; several of them are shown side by side, beside
the published figures of the Phi-4-reasoning report. It may be of an evaluation that is still running: complete runs
count, and the report says what is left out. Models are called after their folders; LABEL=DIR calls one otherwise.

  phi4r report runs/eval                                        one model
  phi4r report SFT=runs/eval_sft GRPO=runs/eval_grpo            two models, and the paired test of their difference
  phi4r report --checkpoints runs/eval/step-*                   one run over its checkpoints (Figure 4)
  phi4r report runs/sft runs/eval_sft                           with the curves of the training run in runs/sft

It writes OUTPUT/report.html, which is one file that opens anywhere, OUTPUT/figures/*.png and *.svg, and
OUTPUT/tables/*.md and *.csv.
"""

import argparse
import pathlib
import sys

from phi4r.evals.reporting.evaluation_report import report_evaluations


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `phi4r report`."""
    parser.add_argument(
        "dirs",
        metavar="[LABEL=]DIR",
        nargs="+",
        help="a folder of evaluations, or the workdir of a training run with metrics.jsonl",
    )
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        type=pathlib.Path,
        default=pathlib.Path("runs/report"),
        help="where to write (default %(default)s)",
    )
    parser.add_argument(
        "--checkpoints",
        action="store_true",
        help="the folders are checkpoints of one run; the step of each is the last number in its name or label",
    )


def run(args: argparse.Namespace) -> None:
    """Writes the report and says what is in it, and on stderr what was left out.

    Raises:
      UserError: if there is nothing to report, or the output cannot be written.
    """
    written = report_evaluations(args.dirs, args.output, checkpoints=args.checkpoints)
    for note in written.notes:
        print(f"phi4r report: {note}", file=sys.stderr)
    print(f"wrote {written.page}: {written.num_figures} figures, {written.num_tables} tables")
