"""Folders with evaluations, read back: all that a report says comes from here.

    DIR/TASK/responses.jsonl    every judged response (`phi4r.evals.responses`)
    DIR/TASK/protocol.json      how they were made
    DIR/TASK/items.jsonl        {"id", "groups": {"year": 2024, ...}}, a line an item; maybe with "meta", what else the
                                figures of a benchmark's own need (the standings of a contest)
    DIR/TASK/results.json       figures of a judge or of an extraction by a model, kept apart
    DIR/metrics.jsonl           curves, where DIR is the workdir of a training run

A report must come out of an evaluation that is still running, or was killed, or has a damaged file. So what cannot be
read is left out, and every omission becomes a note that the report shows.
"""

import dataclasses
import functools
import os
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phi4r.errors import UserError
from phi4r.evals.benchmarks.codeforces import CODEFORCES
from phi4r.evals.benchmarks.table import BENCHMARKS
from phi4r.evals.reporting.stored import read_object, read_rows, stored_response
from phi4r.evals.responses import Response, ResponseTable, response_table
from phi4r.evals.runner import ITEMS_FILE, PROTOCOL_FILE, RESPONSES_FILE, RESULTS_FILE
from phi4r.evals.scores import Scores
from phi4r.metrics.writer import FILE_NAME as METRICS_FILE

NUM_EXAMPLES = 8  # items whose first response is kept with its text
_MAX_QUOTED = 300  # characters of another program's message
APART = ("judge", "extraction")  # sections of results.json


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One model's answers to one task: N items, each answered in all of R runs.

    Attributes:
      name: of the task; the same in all models that were asked it.
      protocol: of its protocol.json.
      table: the responses as arrays.
      groups: key -> for each of the N items the values it has; an item may belong to several groups of a key, or none.
      statuses: how often verification ended in which way.
      summary: figures of the benchmark's own, as an Elo rating, from the responses that count; where these do not say
        enough, from results.json, of the runs that were finished then.
      apart: section ("judge", "extraction") -> name -> figure, from results.json.
      examples: item -> the response of the first run, with its text, for a few items.
    """

    name: str
    protocol: Mapping[str, Any]
    table: ResponseTable
    groups: Mapping[str, tuple[tuple[str | float, ...], ...]]
    statuses: Mapping[str, int]
    summary: Mapping[str, float]
    apart: Mapping[str, Mapping[str, float]]
    examples: Mapping[str, Response]

    @functools.cached_property
    def scores(self) -> Scores:
        """The statistics of the table."""
        return self.table.scores()

    @property
    def ruled(self) -> bool:
        """Whether rules judged it; where they can judge no response its accuracy says nothing."""
        return "unjudged" not in self.statuses or "ok" in self.statuses

    @property
    def benchmark(self) -> str:
        """Name in the tables of benchmarks and puzzles; empty for problems of a user."""
        return _text(self.protocol.get("benchmark"))

    @property
    def title(self) -> str:
        """What the task is called in tables."""
        return _text(self.protocol.get("title")) or self.name


@dataclasses.dataclass(frozen=True)
class Model:
    """All that is known of one model, or of one run of training.

    Attributes:
      label: its name in the report.
      evaluations: by the name of the task.
      metrics: rows of its metrics.jsonl; empty where it has none.
      notes: what was left out of it, and why.
    """

    label: str
    evaluations: Mapping[str, Evaluation]
    metrics: Sequence[Mapping[str, float | None]]
    notes: tuple[str, ...]


def read_models(folders: Sequence[str]) -> list[Model]:
    """Reads folders of evaluations, each of one model.

    Args:
      folders: DIR, or LABEL=DIR; a folder without a label has as much of its path as tells it from the others.

    Raises:
      UserError: if a folder is missing or holds neither evaluations nor metrics, or two have one label.
    """
    named = [_split_label(folder) for folder in folders]
    labels = _labels(named)
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        of_label = {folder.resolve() for label, (_, folder) in zip(labels, named, strict=True) if label == repeated[0]}
        if len(of_label) == 1:
            raise UserError(f"{of_label.pop()} is given twice; give every folder once.")
        raise UserError(f"two folders are called {repeated[0]!r}; name them with LABEL=DIR.")
    return [_read_model(label, folder) for label, (_, folder) in zip(labels, named, strict=True)]


def complete_part(cells: Mapping[tuple[str, int], Any], num_items: int) -> tuple[list[str], list[int]]:
    """Chooses the items and runs that count: in each of these runs each of these items is answered.

    The runs that are complete count, with all items. Where none is, as many items and runs as give the most responses.

    Args:
      cells: keys (item, run) of the responses that there are.
      num_items: how many items the task has.

    Returns:
      Items in the order of `cells`, and runs in ascending order.
    """
    items = list(dict.fromkeys(item for item, _ in cells))
    by_run: dict[int, set[str]] = {}
    for item, run in cells:
        by_run.setdefault(run, set()).add(item)
    complete = sorted(run for run, answered in by_run.items() if len(answered) >= num_items)
    if complete:
        return items, complete
    fullest_first = sorted(by_run, key=lambda run: (-len(by_run[run]), run))
    common, best = set(items), (0, set(), [])
    for number, run in enumerate(fullest_first, start=1):
        common = common & by_run[run]
        best = max(best, (number * len(common), common, fullest_first[:number]), key=lambda choice: choice[0])
    return [item for item in items if item in best[1]], sorted(best[2])


def _split_label(folder: str) -> tuple[str, pathlib.Path]:
    """Splits LABEL=DIR; a folder whose own name has a "=" is taken as it is."""
    label, sign, rest = folder.partition("=")
    if not sign or pathlib.Path(folder).exists():
        label, rest = "", folder
    path = pathlib.Path(rest)
    if not path.is_dir():
        raise UserError(f"there is no folder {rest}; give the --workdir of an evaluation, or LABEL=DIR.")
    return label, path


def _labels(named: Sequence[tuple[str, pathlib.Path]]) -> list[str]:
    """Returns the given labels, and for the other folders the shortest ends of their paths that differ."""
    parts = [folder.resolve().parts for _, folder in named]
    labels: list[str] = []
    for depth in range(1, max(map(len, parts), default=0) + 1):
        labels = [label or "/".join(path[-depth:]) for (label, _), path in zip(named, parts, strict=True)]
        if len(set(labels)) == len(labels):
            break
    return labels


def _read_model(label: str, folder: pathlib.Path) -> Model:
    """Reads one folder with all the evaluations under it."""
    notes: list[str] = []
    found = list(_evaluation_folders(folder))
    read = [(path, evaluation) for path in found if (evaluation := _read_evaluation(path, label, notes))]
    names = Counter(evaluation.name for _, evaluation in read)
    evaluations = {}
    for path, evaluation in read:
        if names[evaluation.name] > 1:
            evaluation = _told_apart(evaluation, str(path.relative_to(folder)))
        evaluations[evaluation.name] = evaluation
    rows = read_rows(folder / METRICS_FILE, label, notes) if (folder / METRICS_FILE).is_file() else ()
    metrics = [_figures(row) for _, row in rows if isinstance(row.get("step"), int)]
    if not evaluations and not metrics:
        why = notes[0].rstrip(".") if found else f"there is neither {PROTOCOL_FILE} nor {METRICS_FILE}"
        raise UserError(f"{folder} has no evaluation to report: {why}; run `phi4r evaluate` into it first.")
    return Model(label, evaluations, metrics, tuple(notes))


def _told_apart(evaluation: Evaluation, place: str) -> Evaluation:
    """Returns one of several evaluations of a task in a folder, greedy and sampled ones say, called by its place."""
    protocol = {**evaluation.protocol, "title": f"{evaluation.title} ({place})"}
    return dataclasses.replace(evaluation, name=f"{evaluation.name} ({place})", protocol=protocol)


def _evaluation_folders(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields all folders with a protocol, in the order of their names."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        if PROTOCOL_FILE in files:
            yield pathlib.Path(root)


def _read_evaluation(path: pathlib.Path, label: str, notes: list[str]) -> Evaluation | None:
    """Reads one folder; None where nothing of it can be used. What is left out goes into `notes`."""
    protocol = read_object(path / PROTOCOL_FILE, label, notes)
    name = _text(protocol.get("task")) or path.name
    where = f"{label}, {name}"
    groups, metas = _read_items(path / ITEMS_FILE, where, notes)
    cells, examples = _read_cells(path / RESPONSES_FILE, list(groups), where, notes)
    num_items = max(_count(protocol.get("num_items")), len({item for item, _ in cells}))
    items, runs = complete_part(cells, num_items)
    if not items:
        notes.append(f"{where}: there are no responses yet.")
        return None
    left_out = len(cells) - len(items) * len(runs)
    if left_out or len(items) < num_items:  # of an evaluation that is still running, say
        counted = f"{len(items)} of {num_items} items in {len(runs)} run{'s' * (len(runs) > 1)}"
        others = f"{left_out} other response{'s are' if left_out != 1 else ' is'} left out"
        notes.append(f"{where}: not finished; {counted} count, {others}.")
    rows = [
        cells[item, run] if run == k else dataclasses.replace(cells[item, run], run=k)
        for item in items
        for k, run in enumerate(runs)
    ]
    table = response_table(rows)
    statuses = Counter(row.status for row in rows)
    if statuses["unjudged"]:
        notes.append(f"{where}: {statuses['unjudged']} of {len(rows)} responses can only be judged by a model.")
    results = read_object(path / RESULTS_FILE, where, notes) if (path / RESULTS_FILE).is_file() else {}
    notes += _caveats(rows, protocol, results, where)
    return Evaluation(
        name=name,
        protocol=protocol,
        table=table,
        groups=_groups_by_key(groups, table.ids, protocol.get("groups")),
        statuses=statuses,
        summary=_summary(_text(protocol.get("benchmark")), rows, metas) or _figures(results.get("summary")),
        apart={section: figures for section in APART if (figures := _figures(results.get(section)))},
        examples=examples,
    )


def _read_items(
    path: pathlib.Path, where: str, notes: list[str]
) -> tuple[dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """Reads what results are broken down by, for every item in the order of the task, and what else is known of it."""
    groups, metas = {}, {}
    for _, row in read_rows(path, where, notes) if path.is_file() else ():
        if isinstance(row.get("id"), str) and isinstance(row.get("groups"), dict):
            meta = row.get("meta")
            groups[row["id"]] = row["groups"]
            metas[row["id"]] = {**row["groups"], **(meta if isinstance(meta, dict) else {})}
    return groups, metas


def _summary(benchmark: str, rows: Sequence[Response], metas: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Returns the figures of a benchmark's own, or else the means of what its verifier measured besides the verdict.

    Nothing where a figure needs more than is stored: an Elo rating needs the standings of the contests.
    """
    known = BENCHMARKS.get(benchmark)
    if known is not None and known.summary is not None:
        if benchmark == CODEFORCES.name and not any(meta.get("standings") for meta in metas.values()):
            return {}
        try:
            return _figures(known.summary(rows, metas))
        except (UserError, KeyError, TypeError, ValueError, ZeroDivisionError):  # stored by another version, or damaged
            return {}
    measured: dict[str, list[float]] = {}
    for name, value in (part for row in rows for part in _figures(row.parts).items()):
        measured.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in measured.items()}


def _caveats(
    rows: Sequence[Response], protocol: Mapping[str, Any], results: Mapping[str, Any], where: str
) -> Iterator[str]:
    """Yields what else a reader must know of the figures: problems left out, requests that were refused."""
    num_malformed, named = _count(protocol.get("malformed_rows")), results.get("malformed")
    if num_malformed:
        first = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
        yield f"{where}: {num_malformed} malformed rows of the problems were not asked" + (
            f", the first: {first[:_MAX_QUOTED]}" if first else "; results.json names them when it is finished."
        )
    num_refused = sum(row.finish_reason == "refused" for row in rows)
    if num_refused:
        yield f"{where}: {num_refused} of {len(rows)} requests were refused by the server and count as wrong."


def _read_cells(
    path: pathlib.Path, order: Sequence[str], where: str, notes: list[str]
) -> tuple[dict[tuple[str, int], Response], dict[str, Response]]:
    """Reads responses without their texts, by item and run; and with it a few of the first run.

    Args:
      path: of the responses, which lie in the order in which they were finished.
      order: items in the order of the task; empty where that is not known.
      where: begins notes.
      notes: gets a line about what is left out.
    """
    cells: dict[tuple[str, int], Response] = {}
    examples: dict[str, Response] = {}
    wanted = set(order[:NUM_EXAMPLES])
    num_damaged = num_repeated = first_damaged = 0
    for number, row in read_rows(path, where, notes):
        text = row.get("text")
        response = stored_response({**row, "text": ""} if isinstance(text, str) else row)
        if response is None:
            num_damaged, first_damaged = num_damaged + 1, first_damaged or number
            continue
        key = response.id, response.run
        num_repeated += key in cells
        if response.run == 0 and (response.id in wanted if wanted else len(examples) < NUM_EXAMPLES):
            examples.setdefault(response.id, dataclasses.replace(response, text=text))
        cells.setdefault(key, response)
    if num_damaged:
        what = f"lines of {path} that are no responses are left out, the first is line {first_damaged}."
        notes.append(f"{where}: {num_damaged} {what}")
    if num_repeated:
        notes.append(f"{where}: {num_repeated} responses are there twice; the first of each counts.")
    return cells, {item: examples[item] for item in (order[:NUM_EXAMPLES] or examples) if item in examples}


def _groups_by_key(
    groups: Mapping[str, Mapping[str, Any]], items: Sequence[str], keys: Any
) -> dict[str, tuple[tuple[str | float, ...], ...]]:
    """Returns for each key of the protocol, or of the items where it has none, the values that each item has."""
    if not isinstance(keys, list):
        keys = list(dict.fromkeys(key for values in groups.values() for key in values))
    by_key = {key: tuple(_values(groups.get(item, {}).get(key)) for item in items) for key in map(str, keys)}
    return {key: values for key, values in by_key.items() if any(values)}


def _values(value: Any) -> tuple[str | float, ...]:
    """Returns the groups that a value stands for: those of a list one by one, none for null."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(dict.fromkeys(single for element in value for single in _values(element)))
    plain_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (value if plain_number else str(value),)


def _figures(section: Any) -> dict[str, float]:
    """Returns the numbers of a JSON object."""
    pairs = section.items() if isinstance(section, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, int | float) and not isinstance(value, bool)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
