"""Joins the results of several quickstarts, a seed each, into one Markdown table.

python -m phi4r.quickstart.table runs/reproduce/seed*
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phi4r.errors import UserError

Report = Mapping[str, Any]  # what report.json holds


def read_reports(folders: Sequence[str]) -> dict[str, Report]:
    """Reads report.json of every folder, by the folder's name.

    Raises:
      UserError: if there is none to read.
    """
    reports = {}
    for folder in map(pathlib.Path, folders):
        try:
            reports[folder.name] = json.loads((folder / "report.json").read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read {folder / 'report.json'} ({error}); finish that quickstart first.") from error
    if not reports:
        raise UserError("give the folders of at least one quickstart.")
    return reports


def results_table(reports: Mapping[str, Report]) -> str:
    """Returns accuracy on the test set in percent, greedy and at T = 0.8: a run a line, a model a column."""
    models = list(next(iter(reports.values()))["models"])
    lines = ["| run | " + " | ".join(f"{model}: greedy, T 0.8" for model in models) + " |"]
    lines.append("|---|" + "---|" * len(models))
    scores = {
        run: [[100 * report["models"][model][key] for key in ("greedy", "t08")] for model in models]
        for run, report in reports.items()
    }
    scores["mean"] = np.mean(list(scores.values()), axis=0).tolist()
    for run, cells in scores.items():
        lines.append(f"| {run} | " + " | ".join(f"{greedy:.1f}, {sampled:.1f}" for greedy, sampled in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        print(results_table(read_reports(sys.argv[1:])))
    except UserError as error:
        print(f"phi4r: {error}", file=sys.stderr)
        sys.exit(2)
