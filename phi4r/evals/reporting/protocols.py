"""How the answers were made, and where that differs between models that are shown side by side."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phi4r.evals.reporting.collected import Evaluation, Model
from phi4r.evals.reporting.result_tables import by_model, task_names
from phi4r.evals.reporting.tables import Table

TEMPLATE = "provenance.chat_template"
_SHOWN = (
    *(f"decoding.{name}" for name in ("temperature", "top_p", "top_k", "max_tokens")),
    *("seed", "problems", TEMPLATE, "malformed_rows"),
)
_IDENTITY = tuple(f"provenance.{name}" for name in ("weights", "config", "tokenizer", "model", "base_url"))
_NAMES = {"problems": "hash of problems", TEMPLATE: "hash of template", "malformed_rows": "malformed rows"}
_MAX_LENGTH = 60


def protocol_table(models: Sequence[Model]) -> Table:
    """Returns decoding, seeds and hashes of every evaluation, a line each."""
    lines = []
    for task in task_names(models):
        for label, evaluation in by_model(models, task).items():
            settings = flat(evaluation.protocol)
            shown = [_short(settings.get(key, "")) for key in _SHOWN]
            lines.append([evaluation.title, label, *shown])
    header = ["benchmark", "model", *(_name(key) for key in _SHOWN)]
    return Table("protocols", header, lines, "From protocol.json of each evaluation, which says the rest.")


def differences_table(models: Sequence[Model]) -> Table | None:
    """Returns every setting in which the models of a task differ, a line each; None if they differ in none.

    Which model it is may differ, since that is what is compared.
    """
    lines = []
    for task in task_names(models):
        evaluations = by_model(models, task)
        title = next(iter(evaluations.values())).title
        for key, values in _differences(evaluations):
            lines.append([title, _name(key), *(_short(values.get(model.label, "")) for model in models)])
    header = ["benchmark", "setting", *(model.label for model in models)]
    caption = "Settings in which the models of a benchmark differ: a difference in accuracy may come from them."
    return Table("protocol_differences", header, lines, caption) if lines else None


def difference_notes(models: Sequence[Model]) -> Iterator[str]:
    """Yields a sentence for each task whose models were not asked in the same way."""
    for task in task_names(models):
        keys = [_name(key) for key, _ in _differences(by_model(models, task))]
        if keys:
            yield f"{task}: the models differ in their protocol ({', '.join(keys)}); see Protocols."


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings by their paths: {"decoding.top_k": 50}."""
    values: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, dict) and value
        values |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return values


def _differences(evaluations: Mapping[str, Evaluation]) -> list[tuple[str, dict[str, Any]]]:
    """Returns (setting, label -> value) for every setting in which evaluations of one task differ."""
    settings = {label: flat(evaluation.protocol) for label, evaluation in evaluations.items()}
    keys = dict.fromkeys(key for values in settings.values() for key in values)
    found = []
    for key in keys:
        distinct = {_text(values[key]) if key in values else None for values in settings.values()}
        if len(distinct) > 1 and key not in _IDENTITY:
            found.append((key, {label: values[key] for label, values in settings.items() if key in values}))
    return found


def _name(key: str) -> str:
    return _NAMES.get(key, key.removeprefix("decoding."))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _short(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 3] + "..."
