"""`phi4r report`: a page, figures and tables of evaluations, from their stored responses alone.

OUTPUT/report.html              everything, in one file
OUTPUT/figures/NAME.{png,svg}   every figure
OUTPUT/tables/NAME.{md,csv}     every table
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from phi4r.data.records import atomic_path
from phi4r.errors import UserError
from phi4r.evals.reporting.collected import Evaluation, Model, read_models
from phi4r.evals.reporting.derived import all_groups
from phi4r.evals.reporting.dynamics import grpo_figures, sft_figures
from phi4r.evals.reporting.markup import (
    Sample,
    Section,
    details,
    figure_grid,
    heading,
    notes_list,
    paragraph,
    samples_table,
    write_report,
)
from phi4r.evals.reporting.pictures import (
    Picture,
    checkpoint_pictures,
    checkpoint_steps,
    overview_picture,
    samples_drawn,
    task_pictures,
)
from phi4r.evals.reporting.protocols import difference_notes, differences_table, protocol_table
from phi4r.evals.reporting.result_tables import (
    apart_table,
    by_model,
    comparison_notes,
    comparison_table,
    group_table,
    results_tables,
    scores_table,
    summary_table,
    task_names,
)
from phi4r.evals.reporting.style import png_bytes, svg_bytes
from phi4r.evals.reporting.tables import Table

_EXAMPLES = 2  # items of each task whose responses are shown
_SHOWN_ENDS = 1500  # characters of a long response that are shown of its beginning, and of its end


@dataclasses.dataclass(frozen=True)
class Written:
    """What a report consists of."""

    page: pathlib.Path
    num_figures: int
    num_tables: int
    notes: tuple[str, ...]


def report_evaluations(folders: Sequence[str], output: str | os.PathLike, *, checkpoints: bool = False) -> Written:
    """Writes the report of evaluations.

    Args:
      folders: DIR or LABEL=DIR, one a model, as `read_models` takes them.
      output: folder of the report, made if it is missing.
      checkpoints: whether the folders are checkpoints of one run, with their step in their names.

    Raises:
      UserError: if there is nothing to report, or the output cannot be written.
    """
    models = read_models(folders)
    if checkpoints:
        evaluated = [model for model in models if model.evaluations]
        in_order = sorted(zip(checkpoint_steps(evaluated), evaluated, strict=True), key=lambda pair: pair[0])
        models = [model for _, model in in_order] + [model for model in models if not model.evaluations]
    return _Report(pathlib.Path(output), models, checkpoints).write()


class _Report:
    """Collects sections, and writes figures and tables on the way."""

    def __init__(self, output: pathlib.Path, models: Sequence[Model], checkpoints: bool):
        self._output, self._checkpoints = output, checkpoints
        self._models = models
        self._evaluated = _ruled(models)
        # The ends of a run say enough of each task; the course is in the figures over checkpoints.
        ends_only = checkpoints and len(self._evaluated) > 2
        self._shown = [self._evaluated[0], self._evaluated[-1]] if ends_only else self._evaluated
        self._notes = [note for model in models for note in model.notes]
        self._files: set[str] = set()
        self._num_figures = self._num_tables = 0

    def write(self) -> Written:
        """Writes all files, the page last."""
        sections = list(self._sections())
        if self._notes:
            sections.insert(0, Section("Notes", notes_list(self._notes)))
        page = self._output / "report.html"
        labels = ", ".join(model.label for model in self._models)
        write_report(page, "Evaluation report", sections, subtitle=labels, contents=True)
        return Written(page, self._num_figures, self._num_tables, (*self._notes, *self._old_files()))

    def _sections(self) -> Iterator[Section]:
        """Yields the sections in the order of the page."""
        models = self._evaluated
        if models:
            yield self._results()
        if models and self._checkpoints:
            ends = ""
            if len(self._shown) < len(models):
                first, last = (model.label for model in self._shown)
                ends = paragraph(f"Figures of single tasks show the first and the last of them: {first}, {last}.")
            yield Section("Over checkpoints (Figure 4)", self._figures(checkpoint_pictures(models)) + ends)
        for model in self._models:
            if model.metrics:
                yield from self._training(model)
        for task in task_names(self._shown):
            yield self._task(task, by_model(self._shown, task))
        comparisons = comparison_table(models, first_only=self._checkpoints)
        if comparisons:
            yield Section("Paired comparisons", self._table(comparisons))
        self._notes += comparison_notes(models, first_only=self._checkpoints)
        judged = apart_table(self._models)
        if judged:
            yield Section("Judged by a model", self._table(judged))
        if models:
            yield self._protocols()
            names = task_names(self._shown)
            yield Section("Examples", "".join(_examples(task, by_model(self._shown, task)) for task in names))

    def _results(self) -> Section:
        k = samples_drawn(self._evaluated)
        tables = "".join(heading(title) + self._table(table) for title, table in results_tables(self._evaluated))
        overview = self._figures([overview_picture(self._shown, k)])
        statistics = details("All statistics", self._table(scores_table(self._evaluated, k)))
        own = summary_table(self._evaluated)
        own_figures = details("Figures of the benchmarks' own", self._table(own)) if own else ""
        return Section("Results", tables + overview + statistics + own_figures)

    def _task(self, task: str, evaluations: Mapping[str, Evaluation]) -> Section:
        groups = all_groups(evaluations)
        figures = self._figures(task_pictures(task, evaluations, groups))
        tables = "".join(
            details(f"Table: accuracy by {key.replace('_', ' ')}", self._table(group_table(task, key, scores)))
            for key, scores in groups.items()
        )
        return Section(next(iter(evaluations.values())).title, figures + tables)

    def _training(self, model: Model) -> Iterator[Section]:
        """Draws the curves of a training run: those of GRPO where rollouts have an accuracy, else those of SFT."""
        grpo = any(row.get("accuracy") is not None for row in model.metrics)
        try:
            figures = grpo_figures(model.metrics) if grpo else sft_figures(model.metrics)
        except UserError as error:
            self._notes.append(f"{model.label}: {error}")
            return
        title = f"{'GRPO (Figure 7)' if grpo else 'Supervised fine-tuning (Figure 4)'}: {model.label}"
        pictures = [
            Picture(f"{model.label}_{figure.axes[0].get_title(loc='left')}", figure, caption)
            for figure, caption in figures
        ]
        yield Section(title, self._figures(pictures))

    def _protocols(self) -> Section:
        self._notes += difference_notes(self._evaluated)
        differences = differences_table(self._evaluated)
        body = self._table(differences) if differences else ""
        if not differences and len(self._evaluated) > 1:
            body = paragraph("All models of a benchmark were asked in the same way.")
        return Section("Protocols", body + details("All protocols", self._table(protocol_table(self._evaluated))))

    def _figures(self, pictures: Iterable[Picture]) -> str:
        """Writes pictures to files and returns them for the page, wide ones last, and then their tables, folded."""
        shown: dict[bool, list[tuple[bytes, str]]] = {False: [], True: []}
        tables = ""
        for picture in pictures:
            svg, name = svg_bytes(picture.figure), self._file_name("figures", picture.name)
            for suffix, data in ((".svg", svg), (".png", png_bytes(picture.figure))):
                with atomic_path(self._output / f"{name}{suffix}") as partial:
                    partial.write_bytes(data)
            shown[picture.wide].append((svg, picture.caption))
            self._num_figures += 1
            if picture.table is not None:
                tables += details(f"Table: {picture.title}", self._table(picture.table))
        return "".join(figure_grid(figures, wide=wide) for wide, figures in shown.items() if figures) + tables

    def _table(self, table: Table) -> str:
        """Writes a table to files and returns it for the page."""
        name = self._file_name("tables", table.name)
        for suffix, text in ((".md", table.markdown()), (".csv", table.csv())):
            with atomic_path(self._output / f"{name}{suffix}") as partial:
                partial.write_text(text, encoding="utf-8", errors="replace")
        self._num_tables += 1
        return table.html()

    def _old_files(self) -> Iterator[str]:
        """Yields a sentence about figures and tables in the folder that are of an earlier report."""
        for folder in ("figures", "tables"):
            there = sorted(path for path in (self._output / folder).glob("*.*") if not path.name.startswith("."))
            old = [path.name for path in there if f"{folder}/{path.stem}".lower() not in self._files]
            if old:
                yield f"{len(old)} files in {self._output / folder} are not of this report, {old[0]} the first."

    def _file_name(self, folder: str, name: str) -> str:
        """Returns a path without suffix that no other file of this report has."""
        plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.")[:80] or "unnamed"
        path, number = f"{folder}/{plain}", 2
        while path.lower() in self._files:
            path, number = f"{folder}/{plain}_{number}", number + 1
        self._files.add(path.lower())
        return path


def _ruled(models: Sequence[Model]) -> list[Model]:
    """Returns the models with evaluations that rules judged, and with these alone."""
    ruled = [
        dataclasses.replace(model, evaluations={name: e for name, e in model.evaluations.items() if e.ruled})
        for model in models
    ]
    return [model for model in ruled if model.evaluations]


def _examples(task: str, evaluations: Mapping[str, Evaluation]) -> str:
    """Returns responses of all models to the same few items, folded; items on which the models differ come first."""
    common = [
        item
        for item in next(iter(evaluations.values())).examples
        if all(item in evaluation.examples for evaluation in evaluations.values())
    ]
    verdicts = {item: {evaluation.examples[item].correct for evaluation in evaluations.values()} for item in common}
    chosen = sorted(common, key=lambda item: -len(verdicts[item]))[:_EXAMPLES]
    samples = [
        Sample(
            model=label,
            prompt=f"item {item}, run 0, " + ("no answer" if response.answer is None else f"answer {response.answer}"),
            response=_shortened(response.text),
            reference="",
            correct=response.correct,
            num_tokens=response.num_tokens,
        )
        for item in chosen
        for label, evaluation in evaluations.items()
        for response in [evaluation.examples[item]]
    ]
    title = next(iter(evaluations.values())).title
    return details(f"{title}: {len(chosen)} items", samples_table(samples)) if samples else ""


def _shortened(text: str) -> str:
    """Returns both ends of a long text."""
    left_out = len(text) - 2 * _SHOWN_ENDS
    if left_out <= 0:
        return text
    return f"{text[:_SHOWN_ENDS]}\n\n[... {left_out:,} characters ...]\n\n{text[-_SHOWN_ENDS:]}"
