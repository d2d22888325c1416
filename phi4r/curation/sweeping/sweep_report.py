"""The report of a sweep: every run, the main effects, and whether what is gained apart adds up.

WORKDIR/report/report.html                everything, in one file
WORKDIR/report/{runs,effects,additivity}.{md,csv}
WORKDIR/report/{mixtures,scores}.{png,svg}
WORKDIR/sweep.json                        the same numbers for programs
"""

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from phi4r.curation.sweeping.sweep_effects import Additivity, MainEffect, SeedScores, additivity, main_effects
from phi4r.curation.sweeping.sweep_figures import PREDICTED, heat_figure, mixture_figure
from phi4r.curation.sweeping.sweep_settings import RunPlan, SweepSettings
from phi4r.data.records import atomic_path, write_json
from phi4r.evals.reporting.markup import Section, figure_grid, notes_list, paragraph, write_report
from phi4r.evals.reporting.style import png_bytes, svg_bytes
from phi4r.evals.reporting.tables import Table, percent

_ADDITIVE = (
    "What two changes or more bring together, beside what each brings alone: predicted is the base and the sum of all "
    "gains over it (A + B - base), and the interaction is what was measured over that. Scores in percent, differences "
    "in points."
)


def write_sweep_report(
    settings: SweepSettings, plans: Sequence[RunPlan], results: Mapping[str, Mapping[str, Any]], workdir: pathlib.Path
) -> dict[str, Any]:
    """Writes the report of the runs that are finished, and returns what sweep.json holds.

    Args:
      settings: of the sweep.
      plans: all runs.
      results: name -> result.json, of those that are finished.
      workdir: of the sweep.

    Raises:
      UserError: if a file cannot be written.
    """
    scores = _by_domain(plans, results)
    effects = {domain: main_effects(of_runs, settings.factors) for domain, of_runs in scores.items()}
    sums = {domain: additivity(of_runs, settings.factors) for domain, of_runs in scores.items()}
    tables = [_runs_table(settings, plans, results, list(scores))]
    if results:
        tables += [_effects_table(effects), _additivity_table(settings, sums)]
    figures = _figures(settings, plans, results, scores, sums) if results else {}
    folder = workdir / "report"
    _write_files(folder, tables, figures)
    write_report(folder / "report.html", "Sweep", _sections(plans, results, tables, figures), subtitle=str(workdir))
    summary = {
        "runs": {
            name: {"levels": r["levels"], "seed": r["seed"], "scores": r["scores"]} for name, r in results.items()
        },
        "missing": [plan.name for plan in plans if plan.name not in results],
        "effects": {domain: [dataclasses.asdict(effect) for effect in found] for domain, found in effects.items()},
        "additivity": {
            domain: [{**dataclasses.asdict(one), "interaction": one.interaction} for one in found]
            for domain, found in sums.items()
        },
    }
    write_json(workdir / "sweep.json", summary)
    return summary


def _by_domain(plans: Sequence[RunPlan], results: Mapping[str, Mapping[str, Any]]) -> dict[str, SeedScores]:
    """Returns the scores of all finished runs, by domain."""
    done = [(plan, results[plan.name]["scores"]) for plan in plans if plan.name in results]
    domains = dict.fromkeys(domain for _, scores in done for domain in scores)
    return {domain: {(plan.levels, plan.seed): scores[domain] for plan, scores in done} for domain in domains}


def _runs_table(
    settings: SweepSettings, plans: Sequence[RunPlan], results: Mapping[str, Mapping[str, Any]], domains: Sequence[str]
) -> Table:
    header = [
        "run",
        *(factor.name for factor in settings.factors),
        "seed",
        *(f"{domain}, %" for domain in domains),
        "mean, %",
        "seconds",
    ]
    rows, records = [], []
    for plan in plans:
        result = results.get(plan.name)
        scores = [result["scores"][domain] for domain in domains] if result else []
        cells = [*map(percent, scores), percent(statistics.fmean(scores)), f"{result['seconds']:.0f}"] if scores else []
        rows.append([plan.name, *plan.levels, plan.seed, *(cells or ["not finished", *[""] * (len(domains) + 1)])])
        levels = dict(zip((factor.name for factor in settings.factors), plan.levels, strict=True))
        record = {"run": plan.name, **levels, "seed": plan.seed, "trained": plan.sft is not None}
        # A factor may have the name of a domain.
        records.append(record | {f"{domain}_score": score for domain, score in zip(domains, scores, strict=False)})
    return Table("runs", header, rows, "Accuracy of each domain in percent.", records)


def _effects_table(effects: Mapping[str, Sequence[MainEffect]]) -> Table:
    """Returns a row for every level, with its mean and its effect on every domain."""
    domains = list(effects)
    rows, records = [], []
    for of_level in zip(*effects.values(), strict=True):
        first = of_level[0]
        cells = [f"{100 * one.mean:.1f} ({_points(one.effect)})" for one in of_level]
        rows.append([first.factor, first.level, first.num_runs, *cells])
        record: dict[str, Any] = {"factor": first.factor, "level": first.level, "runs": first.num_runs}
        for domain, one in zip(domains, of_level, strict=True):
            record |= {f"{domain}_mean": one.mean, f"{domain}_effect": one.effect}
        records.append(record)
    caption = (
        "Mean score of all runs at a level, over the levels of all other factors, in percent; in brackets the effect: "
        "the difference to the first level, in points."
    )
    return Table("effects", ["factor", "level", "runs", *domains], rows, caption, records)


def _additivity_table(settings: SweepSettings, sums: Mapping[str, Sequence[Additivity]]) -> Table:
    header = ["domain", "combination", "base", "each alone", "predicted", "measured", "interaction"]
    rows, records = [], []
    for domain, found in sums.items():
        for one in found:
            name = _label(settings, one.levels)
            alone = ", ".join(map(percent, one.alone))
            gap = _points(one.interaction) + (f" (sd {100 * one.sd:.1f})" if one.sd is not None else "")
            rows.append([domain, name, percent(one.base), alone, percent(one.predicted), percent(one.measured), gap])
            values = {"base": one.base, "predicted": one.predicted, "measured": one.measured}
            records.append(
                {"domain": domain, "combination": name, **values, "interaction": one.interaction, "sd": one.sd}
            )
    return Table("additivity", header, rows, _ADDITIVE, records)


def _figures(
    settings: SweepSettings,
    plans: Sequence[RunPlan],
    results: Mapping[str, Mapping[str, Any]],
    scores: Mapping[str, SeedScores],
    sums: Mapping[str, Sequence[Additivity]],
) -> dict[str, tuple[Figure, str]]:
    """Returns name -> (figure, caption)."""
    cells = dict.fromkeys(plan.levels for plan in plans if plan.name in results)
    spread = "standard deviation over seeds" if len(settings.seeds) > 1 else "95% interval of the evaluation"
    bars = {
        domain: {_label(settings, levels): _bar(domain, levels, plans, results) for levels in cells}
        | ({PREDICTED: (found[-1].predicted,) * 3} if found else {})
        for domain, found in ((domain, sums[domain]) for domain in scores)
    }
    figures = {}
    figure = mixture_figure(bars)
    if figure is not None:
        caption = f"Score of each domain by mixture, as in Figure 5 of the paper; the line is the {spread}."
        combination = next((_label(settings, found[-1].levels) for found in sums.values() if found), "")
        caption += f" Predicted is {combination}, if gains add up." if combination else ""
        figures["mixtures"] = (figure, caption)
    rows = {
        _label(settings, levels): [bars[domain][_label(settings, levels)][0] for domain in scores] for levels in cells
    }
    heat = heat_figure(rows, list(scores), title="Scores of all combinations")
    figures["scores"] = (heat, "Scores in percent, means over seeds.")
    return figures


def _bar(
    domain: str, levels: tuple[str, ...], plans: Sequence[RunPlan], results: Mapping[str, Mapping[str, Any]]
) -> tuple[float, float, float]:
    """Returns the mean score of a combination and the ends of its line."""
    runs = [results[plan.name] for plan in plans if plan.levels == levels and plan.name in results]
    scores = [run["scores"][domain] for run in runs]
    mean = statistics.fmean(scores)
    if len(scores) > 1:
        sd = statistics.stdev(scores)
        return mean, mean - sd, mean + sd
    interval = runs[0]["tasks"].get(domain, {}).get("interval")  # of a domain that is one task
    return (mean, interval["low"], interval["high"]) if interval else (mean, mean, mean)


def _sections(
    plans: Sequence[RunPlan],
    results: Mapping[str, Mapping[str, Any]],
    tables: Sequence[Table],
    figures: Mapping[str, tuple[Figure, str]],
) -> list[Section]:
    missing = [plan.name for plan in plans if plan.name not in results]
    note = f"{len(missing)} of {len(plans)} runs are not finished, so effects are of the others: {', '.join(missing)}."
    notes = notes_list([note]) if missing else ""
    titles = {"runs": "Runs", "effects": "Main effects", "additivity": "Do gains add up?"}
    sections = [Section("Mixtures", notes + figure_grid(list(figures.values())))] if figures else []
    for table in tables:
        body = table.html() if table.rows else paragraph("No combination has all its parts run alone as well.")
        sections.append(Section(titles[table.name], body if sections else notes + body))
    return sections


def _write_files(folder: pathlib.Path, tables: Sequence[Table], figures: Mapping[str, tuple[Figure, str]]) -> None:
    files = {f"{table.name}.md": table.markdown().encode() for table in tables}
    files |= {f"{table.name}.csv": table.csv().encode() for table in tables}
    files |= {f"{name}.svg": svg_bytes(figure) for name, (figure, _) in figures.items()}
    files |= {f"{name}.png": png_bytes(figure) for name, (figure, _) in figures.items()}
    for name, data in files.items():
        with atomic_path(folder / name) as partial:
            partial.write_bytes(data)


def _label(settings: SweepSettings, levels: Sequence[str]) -> str:
    """Returns a combination by what it changes: "base", "math 1", "math 1 + code 2"."""
    changed = [
        f"{factor.name} {level}"
        for factor, level in zip(settings.factors, levels, strict=True)
        if level != factor.level_names[0]
    ]
    return " + ".join(changed) or "base"


def _points(difference: float | None) -> str:
    return "" if difference is None else f"{100 * difference:+.1f}"
