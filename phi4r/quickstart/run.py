"""The quickstart from top to bottom: problems, base, conversion, SFT, GRPO, evaluation, export, report.

    WORKDIR/problems/         data sets of SFT and GRPO, and files to ask (see `phi4r.quickstart.problems`)
    WORKDIR/base_hf, base     the base as a Hugging Face folder, and converted with --reasoning
    WORKDIR/sft, grpo         the two runs (see `phi4r.train.sft`, `phi4r.rl.train`)
    WORKDIR/plain, continued  the controls, if asked for
    WORKDIR/evaluation/       every answer of every model to every test problem, with its verdict
    WORKDIR/hf/               the Hugging Face folder to publish
    WORKDIR/report.html, report.json

Started again in the same folder it goes on where it stopped.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from typing import Any

import phi4r
from phi4r.data.records import write_json
from phi4r.errors import UserError
from phi4r.quickstart import stages
from phi4r.quickstart.problems import write_problems
from phi4r.quickstart.report import model_figures, write_quickstart_report
from phi4r.quickstart.settings import QuickstartSettings
from phi4r.rl.train import run_grpo
from phi4r.settings import first_difference
from phi4r.train.sft import run_sft

MODELS = {"base": "base", "sft": "sft/params", "grpo": "grpo/params"}
CONTROLS = {"plain": "plain/params", "continued": "continued/params"}


def run_quickstart(settings: QuickstartSettings, workdir: str | os.PathLike) -> dict[str, Any]:
    """Runs all stages and returns what report.json holds.

    Raises:
      UserError: as the stages do.
    """
    workdir = pathlib.Path(workdir)
    _settle_settings(settings, workdir)
    seed = settings.seed
    sft = dataclasses.replace(settings.sft, seed=seed)
    grpo = dataclasses.replace(settings.grpo, seed=seed)
    models = MODELS | (CONTROLS if settings.controls else {})
    log = stages.StageLog(workdir, total=7 + len(models) + (len(CONTROLS) if settings.controls else 0))

    log.run("problems", lambda: write_problems(settings.problems, workdir / "problems", seed=seed))
    log.run("base", lambda: stages.make_base(settings, workdir / "base_hf"))
    log.run("convert", lambda: stages.convert_base(workdir / "base_hf", workdir / "base"))
    log.run("sft", lambda: run_sft(sft, workdir / "sft"))
    log.run("grpo", lambda: run_grpo(grpo, workdir / "grpo"))
    if settings.controls:
        log.run("plain", lambda: run_grpo(stages.plain_reward(grpo), workdir / "plain"))
        longer = stages.continued_sft(sft, workdir, seconds=log.seconds["grpo"])
        log.run("continued", lambda: run_sft(longer, workdir / "continued"))
    for name, folder in models.items():
        log.run(
            f"evaluate {name}",
            lambda name=name, folder=folder: stages.evaluate_model(
                settings.evaluation, workdir / folder, workdir / "evaluation" / name, seed=seed
            ),
        )
    log.run("export", lambda: stages.export(workdir / "grpo" / "params", workdir / "hf"))
    texts = {"about": settings.about, "length_note": settings.length_note}
    log.run("report", lambda: write_quickstart_report(workdir, list(models), **texts))
    report = _write_json(workdir, list(models), log.seconds)
    print(f"report: {workdir / 'report.html'}\nmodel:  {workdir / 'hf'}", file=sys.stderr)
    return report


def _settle_settings(settings: QuickstartSettings, workdir: pathlib.Path) -> None:
    """Writes settings.json, or checks that the one in `workdir` is the same: finished stages are not run again."""
    path = workdir / "settings.json"
    values = json.loads(json.dumps(dataclasses.asdict(settings)))
    if not path.exists():
        write_json(path, values)
        return
    difference = first_difference(json.loads(path.read_text()), values)
    if difference is not None:
        name, before, now = difference
        raise UserError(f"{workdir} holds a quickstart with {name}={before}, not {now}; use another --workdir.")


def _write_json(workdir: pathlib.Path, models: list[str], seconds: dict[str, float]) -> dict[str, Any]:
    """Writes report.json: the figures of each model, the seconds of each stage, and the versions."""
    packages = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    report = {
        "models": {name: model_figures(workdir / "evaluation" / name) for name in models},
        "seconds": seconds,
        "versions": {
            "phi4r": phi4r.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }
    write_json(workdir / "report.json", report)
    return report
