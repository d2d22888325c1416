"""A sweep: small SFT runs over a grid, each evaluated, and their effects tabulated (section 2.2 of the paper).

    WORKDIR/start.json, problems/, base/   what was generated before the first run, if anything
    WORKDIR/runs/NAME/                     a run of SFT, as `phi4r.main` leaves it
    WORKDIR/runs/NAME/evaluation/          its evaluation
    WORKDIR/runs/NAME/result.json          levels, scores and the configs of both; a run that has it is finished
    WORKDIR/runs/NAME/failed.txt           why it failed, until it is run again
    WORKDIR/report/, sweep.json            tables, figures and the page (`phi4r.curation.sweeping.sweep_report`)

Started again it runs what is missing, and goes on with a run that was interrupted in its middle. With `num_parts`
several machines share the runs of one workdir; whichever is last has them all in its report.
"""

import json
import os
import pathlib
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from phi4r.curation.sweeping.sweep_settings import RunPlan, SweepSettings, plan_runs
from phi4r.curation.sweeping.sweep_start import prepare_start
from phi4r.data.records import atomic_path, write_json
from phi4r.errors import UserError
from phi4r.settings import build, first_difference

RESULT_FILE, FAILED_FILE = "result.json", "failed.txt"
RunExperiment = Callable[[ConfigDict, pathlib.Path], dict[str, Any]]


def run_sweep(settings: SweepSettings, workdir: str | os.PathLike, *, run_experiment: RunExperiment) -> dict[str, Any]:
    """Runs what is missing, writes the report, and returns what sweep.json holds.

    Args:
      settings: the grid.
      workdir: of the sweep.
      run_experiment: (config, workdir) -> results; the one of `phi4r.main`, which runs and resumes single experiments.

    Raises:
      UserError: for a config that does not fit, before anything is run; for runs that failed, when the report of the
        others is written, or at once where `on_failure` is "stop".
    """
    from phi4r.curation.sweeping.sweep_report import write_sweep_report
    from phi4r.train.preemption import Preempted

    workdir = pathlib.Path(workdir)
    plans = plan_runs(settings)
    _check_configs(settings, plans, workdir)
    prepare_start(workdir, traces=settings.traces, random_base=settings.random_base, seed=settings.seeds[0])
    own = [plan for number, plan in enumerate(plans) if number % settings.num_parts == settings.part]
    failed = {}
    for number, plan in enumerate(own, start=1):
        folder = workdir / "runs" / plan.name
        title = f"[{number}/{len(own)}] {plan.name}"
        if (folder / RESULT_FILE).exists():
            print(f"{title}: done before", file=sys.stderr)
            continue
        print(title, file=sys.stderr)
        try:
            _run(settings, plan, folder, run_experiment)
        except Preempted:
            raise
        except Exception as error:  # whatever stops one run need not stop the others
            failed[plan.name] = _note_failure(error, folder)
            print(f"{title}: failed: {failed[plan.name]}", file=sys.stderr)
            if settings.on_failure == "stop":
                break
    summary = write_sweep_report(settings, plans, read_results(plans, workdir), workdir)
    print(f"report: {workdir / 'report' / 'report.html'}", file=sys.stderr)
    if failed:
        name, reason = next(iter(failed.items()))
        raise UserError(
            f"{len(failed)} of {len(own)} runs failed ({', '.join(failed)}); {name}: {reason} Mend it and start the "
            "sweep again: finished runs are not run again."
        )
    return summary


def read_results(plans: list[RunPlan], workdir: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Returns result.json of every run that is finished, by its name."""
    paths = {plan.name: workdir / "runs" / plan.name / RESULT_FILE for plan in plans}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def domain_scores(results: Mapping[str, Mapping[str, Any]], domains: Mapping[str, str]) -> dict[str, float]:
    """Returns the score of each domain: the mean accuracy of its tasks.

    Args:
      results: task -> its statistics.
      domains: of the settings.

    Raises:
      UserError: for a task of a domain that was not evaluated.
    """
    tasks = {domain: names.split() for domain, names in domains.items()} or {task: [task] for task in results}
    for domain, names in tasks.items():
        missing = [name for name in names if name not in results]
        if missing or not names:
            raise UserError(
                f"domains.{domain} names the task {' '.join(missing)!r}, which was not evaluated; there are "
                f"{', '.join(results)}."
            )
    return {domain: statistics.fmean(results[name]["accuracy"] for name in names) for domain, names in tasks.items()}


def _run(settings: SweepSettings, plan: RunPlan, folder: pathlib.Path, run_experiment: RunExperiment) -> None:
    """Trains and evaluates one run, and writes its result."""
    started = time.perf_counter()
    (folder / FAILED_FILE).unlink(missing_ok=True)
    configs = _configs(settings, plan, folder)
    if plan.sft is not None:
        run_experiment(ConfigDict({"experiment": "sft", **configs["sft"]}), folder)
    results = run_experiment(ConfigDict({"experiment": "evaluate", **configs["evaluation"]}), folder / "evaluation")
    result = {
        "levels": dict(zip((factor.name for factor in settings.factors), plan.levels, strict=True)),
        "seed": plan.seed,
        "scores": domain_scores(results, settings.domains),
        "tasks": {
            task: {"accuracy": values["accuracy"], "interval": values.get("interval")}
            for task, values in results.items()
        },
        "seconds": round(time.perf_counter() - started, 1),
        "configs": configs,
    }
    write_json(folder / RESULT_FILE, result)


def _configs(settings: SweepSettings, plan: RunPlan, folder: pathlib.Path) -> dict[str, Any]:
    """Returns the configs of training and evaluation; without training the base itself is evaluated."""
    model = settings.base["init_from"] if plan.sft is None else str(folder / "params")
    return {"sft": plan.sft, "evaluation": {**settings.evaluation, "model": model, "seed": plan.seed}}


def _check_configs(settings: SweepSettings, plans: list[RunPlan], workdir: pathlib.Path) -> None:
    """Refuses configs that do not fit, and results that were made under others."""
    from phi4r.evals.experiment import EvalSettings
    from phi4r.train.sft import SftSettings

    if "init_from" not in settings.base:
        raise UserError("config.base.init_from is missing; name the model that all runs start from.")
    for plan in plans:
        folder = workdir / "runs" / plan.name
        configs = _configs(settings, plan, folder)
        if plan.sft is not None:
            build(SftSettings, plan.sft, where="config.base")
        build(EvalSettings, configs["evaluation"], where="config.evaluation")
        if (folder / RESULT_FILE).exists():
            before = json.loads((folder / RESULT_FILE).read_text())["configs"]
            difference = first_difference(before, json.loads(json.dumps(configs)))
            if difference is not None:
                name, old, new = difference
                raise UserError(f"{folder} holds a run with {name}={old}, not {new}; use another --workdir.")


def _note_failure(error: Exception, folder: pathlib.Path) -> str:
    """Writes why a run failed, with the traceback where it is a bug and no mistake in the input."""
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    text = reason if isinstance(error, UserError) else "".join(traceback.format_exception(error))
    with atomic_path(folder / FAILED_FILE) as partial:
        partial.write_text(text + "\n", encoding="utf-8", errors="replace")
    return " ".join(reason.split())
