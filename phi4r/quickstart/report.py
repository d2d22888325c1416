"""The page at the end of the quickstart: results, the paper's training figures, and thoughts to read."""

import pathlib
from collections.abc import Sequence
from typing import Any

from phi4r.data.records import Problem, read_jsonl
from phi4r.evals.reporting.dynamics import grpo_figures, sft_figures
from phi4r.evals.reporting.markup import (
    Sample,
    Section,
    figure_grid,
    model_entry,
    paragraph,
    results_figure,
    results_table,
    samples_table,
    write_report,
)
from phi4r.evals.responses import read_responses, response_table, summarise
from phi4r.evals.runner import RESPONSES_FILE
from phi4r.evals.scores import PairedTest, paired_test
from phi4r.metrics.writer import read_metrics

NUM_SAMPLES = 4
RESPONSES = pathlib.Path("test") / RESPONSES_FILE  # of the one task, which is named "test"


def model_figures(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the numbers of one model, recomputed from its stored responses."""
    return model_entry(summarise(folder / "greedy" / RESPONSES), summarise(folder / "sampled" / RESPONSES))


def compare(folder: pathlib.Path, before: str, after: str) -> PairedTest:
    """Returns the paired test of two models at T = 0.8 on the same problems.

    Args:
      folder: of the evaluations.
      before: name of model A.
      after: name of model B.
    """
    paths = [folder / model / "sampled" / RESPONSES for model in (before, after)]
    return paired_test(*(response_table(read_responses(path)).correct for path in paths))


def write_quickstart_report(workdir: pathlib.Path, models: Sequence[str], *, about: str, length_note: str = "") -> None:
    """Writes WORKDIR/report.html.

    Args:
      workdir: of a quickstart that has been evaluated.
      models: names of the evaluated models, in the order of the recipe.
      about: what the task is, said above the results.
      length_note: said below the curves of GRPO; empty for nothing.
    """
    figures = {name: model_figures(workdir / "evaluation" / name) for name in models}
    note = paragraph(length_note) if length_note else ""
    sections = [
        Section("Results", paragraph(about) + _results(workdir, figures)),
        Section("Supervised fine-tuning (Figure 4)", figure_grid(sft_figures(read_metrics(workdir / "sft")))),
        Section("GRPO (Figure 7)", figure_grid(grpo_figures(read_metrics(workdir / "grpo"))) + note),
        Section("Thoughts", samples_table(_samples(workdir, models))),
    ]
    write_report(
        workdir / "report.html",
        "From base to reasoning model",
        sections,
        subtitle="The recipe of Phi-4-reasoning and Phi-4-reasoning-plus in small.",
    )


def _results(workdir: pathlib.Path, figures: dict[str, dict[str, Any]]) -> str:
    """Returns the table of models, their bars, and whether GRPO's gain could be chance."""
    bars = results_figure(figures, title="Held-out accuracy")
    lines = [
        f"GRPO against {other} on the same problems at T = 0.8: {100 * test.difference:+.1f} points, 95% interval "
        f"{100 * test.interval.low:+.1f} to {100 * test.interval.high:+.1f}, {_p_value(test.p_value)}."
        for other in figures
        if other not in ("base", "grpo")
        for test in [compare(workdir / "evaluation", other, "grpo")]
    ]
    return (
        results_table(figures) + "".join(map(paragraph, lines)) + figure_grid([(bars, "95% intervals over problems.")])
    )


def _p_value(p: float) -> str:
    """Returns the p-value as text; below a billionth its digits mean nothing."""
    return "p < 1e-9" if p < 1e-9 else f"p = {p:.2g}"


def _samples(workdir: pathlib.Path, models: Sequence[str]) -> list[Sample]:
    """Returns the greedy answers of every model to the first test problems, problem by problem."""
    problems = read_jsonl(workdir / "problems" / "test.jsonl", Problem)[:NUM_SAMPLES]
    answers = {
        name: {r.id: r for r in read_responses(workdir / "evaluation" / name / "greedy" / RESPONSES)} for name in models
    }
    return [
        Sample(
            model=name,
            prompt=problem.prompt,
            response=answers[name][problem.id].text,
            reference=problem.answer,
            correct=answers[name][problem.id].correct,
            num_tokens=answers[name][problem.id].num_tokens,
        )
        for problem in problems
        for name in models
    ]
