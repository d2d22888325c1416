"""Puts the page together: template, style, scripts and packed data become one HTML file.

Model text cannot run: it is in the page as base64 alone, the scripts show it as text, and the page's content policy
admits no script but its own, by its hash, and nothing from elsewhere.
"""

import base64
import dataclasses
import hashlib
import html
import importlib.resources
import os
import pathlib
import string
from collections.abc import Sequence
from typing import Any

from phi4r.data.records import atomic_path
from phi4r.errors import UserError
from phi4r.rl.records import rollout_files
from phi4r.rl.repetition import RepetitionSettings
from phi4r.viewing.encoding import pack, to_json
from phi4r.viewing.run_facts import CURVES, metric_curves, reward_curve, reward_settings, run_folder
from phi4r.viewing.selection import StepIndex, by_importance, index_step, pack_step, parse_steps, spread_steps

SCRIPTS = ("logic.js", "charts.js", "tokens.js", "group.js", "app.js")


@dataclasses.dataclass(frozen=True)
class PageLimits:
    """How much of a run the page carries.

    Attributes:
      steps: whose texts, as "1,5,10-20"; None for the first, the last and some between them.
      max_steps: how many these are.
      megabytes: about the size of the file; each step has an equal share, and room for one problem at least.
    """

    steps: str | None = None
    max_steps: int = 8
    megabytes: float = 20.0

    def __post_init__(self):
        if self.max_steps < 1 or not self.megabytes > 0:
            raise UserError(f"--max_steps={self.max_steps} and --megabytes={self.megabytes} must be above 0.")


def write_page(folder: str | os.PathLike, path: str | os.PathLike, limits: PageLimits = PageLimits()) -> dict[str, int]:
    """Writes the page of a run, whole or not at all.

    Args:
      folder: a workdir of GRPO, or the folder `rollouts` in it.
      path: of the HTML file.
      limits: how much goes in.

    Returns:
      The numbers of `steps` and `problems` (over all these steps) whose texts went in.

    Raises:
      UserError: if there are no rollouts, one cannot be read, or the file cannot be written.
    """
    folder = pathlib.Path(folder)
    files = rollout_files(folder)
    workdir = run_folder(folder)
    chosen = parse_steps(limits.steps, list(files)) if limits.steps else spread_steps(list(files), limits.max_steps)
    indices = [index_step(step, files[step]) for step in chosen]
    reward = reward_settings(workdir)
    steps = _packed_steps(indices, reward.repetition if reward else RepetitionSettings(), limits)
    curves = metric_curves(workdir)
    overview = {
        "curves": curves or _curves_of(indices),
        "measured": curves is not None,
        "reward": reward_curve(reward) if reward else None,
        "steps": [{name: value for name, value in step.items() if name != "packed"} for step in steps],
        "recorded": len(files),
    }
    with atomic_path(path) as partial:
        partial.write_text(_page(f"{workdir.parent.name}/{workdir.name}", overview, steps), encoding="utf-8")
    return {"steps": len(steps), "problems": sum(step["kept"] for step in steps)}


def _packed_steps(
    indices: Sequence[StepIndex], repetition: RepetitionSettings, limits: PageLimits
) -> list[dict[str, Any]]:
    budget = int(limits.megabytes * 1e6 / len(indices))
    return [
        pack_step(index, by_importance(index, [i for i in indices if i is not index]), repetition, budget=budget)
        for index in indices
    ]


def _curves_of(indices: Sequence[StepIndex]) -> dict[str, list[float | None]]:
    """Returns the curves of the steps at hand, where the run left no metrics."""
    names = [name for name in CURVES if any(index.figures.get(name) is not None for index in indices)]
    return {
        "step": [index.step for index in indices],
        **{name: [index.figures[name] for index in indices] for name in names},
    }


def _page(title: str, overview: dict[str, Any], steps: Sequence[dict[str, Any]]) -> str:
    """Returns the HTML."""
    assets = importlib.resources.files("phi4r.viewing") / "assets"
    style = (assets / "style.css").read_text(encoding="utf-8")
    code = "\n".join((assets / name).read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'(() => {{\n"use strict";\n{code}}})();\n'
    blocks = [("overview", pack(to_json(overview))), *((f"step-{step['step']}", step["packed"]) for step in steps)]
    return string.Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        policy=f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'",
        style=style,
        script=script,
        data="\n".join(f'<script type="application/gzip" id="{name}">{data}</script>' for name, data in blocks),
    )


def _hash(text: str) -> str:
    """Returns the name by which a content policy admits a script or style sheet."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
