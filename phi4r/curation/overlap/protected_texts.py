"""Protected texts: what must not be in the training set, out of the tasks of the evaluation and of files.

    TASK                                  a task spec (`phi4r.evals.specs`): its prompts, as the model is asked
    file:PATH[?fields=FIELD,..&name=WORD]   rows of a user's file, folder or tfds: data set (`phi4r.data.tables`)

So the benchmarks of the paper that are no task here (SWE-Bench Verified, SimpleQA, DROP, AGIEval, ARC, CommonsenseQA,
HellaSwag, MBPP, OpenBookQA, PIQA, WinoGrande, MT-Bench, PhiBench) are protected by their files. Of a row the named
fields are protected, or else all text in it, lists and objects included. A text too short for an n-gram is protected as
a whole where its field is named; otherwise labels and ids of rows would be.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from phi4r.data.tables import read_rows
from phi4r.errors import UserError

FILE_SPEC = "file:PATH?fields=FIELD,FIELD&name=WORD"
_FILE = "file:"


class ProtectedText(NamedTuple):
    """A text of a benchmark, or of a held-out item.

    Attributes:
      benchmark: that it belongs to.
      item: id of the benchmark's item.
      part: which of the item's texts it is, as "prompt".
      text: as it stands there.
      whole: whether it is protected as a whole where it is too short for an n-gram. That is right for a prompt, not for
        an answer of one word.
    """

    benchmark: str
    item: str
    part: str
    text: str
    whole: bool = True


def protected_texts(specs: Sequence[str], *, with_solutions: bool = False) -> Iterator[ProtectedText]:
    """Yields the texts that specs name (see the module's docstring).

    Args:
      specs: of tasks and files.
      with_solutions: whether answers of a task are protected too, and a solution in the `meta` of its problems. Where
        a task leaves solutions out, name its file besides: `file:PATH?fields=solution`.

    Raises:
      UserError: for a bad spec, data that cannot be had, or a file without text in it.
    """
    for spec in specs:
        yield from _file_texts(spec) if spec.startswith(_FILE) else _task_texts(spec, with_solutions)


def place_of(spec: str) -> str:
    """Returns the place in a spec, empty where it names none."""
    return spec.partition("?")[0].partition(":")[2]


def _task_texts(spec: str, with_solutions: bool) -> Iterator[ProtectedText]:
    from phi4r.evals.specs import load_task  # imports all verifiers, which workers with a finished index do not need

    task = load_task(spec)
    for problem in task.problems:
        yield ProtectedText(task.name, problem.id, "prompt", problem.prompt)
        if with_solutions:
            yield ProtectedText(task.name, problem.id, "answer", problem.answer, whole=False)
            solution = problem.meta.get("solution")
            if isinstance(solution, str):
                yield ProtectedText(task.name, problem.id, "solution", solution, whole=False)


def _file_texts(spec: str) -> Iterator[ProtectedText]:
    place, _, query = spec.removeprefix(_FILE).partition("?")
    values = dict(parse_qsl(query, keep_blank_values=True))
    fields = [field for field in values.pop("fields", "").split(",") if field]
    name = values.pop("name", "") or pathlib.Path(place).stem
    if values or not place:
        raise UserError(f"{spec!r} is no file of protected texts; write {FILE_SPEC}.")
    empty = True
    rows = read_rows(place)
    for where, row in rows:
        for text in row_texts(row, fields, benchmark=name, where=where):
            empty = False
            yield text
    if rows.malformed:
        num_lost = len(rows.malformed)
        raise UserError(f"{rows.malformed[0]} Rows like this, {num_lost} in {place}, would not be protected.")
    if empty:
        raise UserError(f"{spec} has no text in {' and '.join(fields) or 'its rows'}; name the fields that have some.")


def row_texts(row: Mapping[str, Any], fields: Sequence[str], *, benchmark: str, where: str) -> Iterator[ProtectedText]:
    """Yields the texts of one row.

    Args:
      row: of a file; its `id`, if it has one, becomes the item.
      fields: that are protected; none for all text in it.
      benchmark: that they belong to.
      where: "file:line", the item's id where the row has none.

    Raises:
      UserError: if the row lacks one of the fields.
    """
    missing = next((field for field in fields if field not in row), None)
    if missing is not None:
        raise UserError(f"{where} has no {missing!r} to protect; its fields are {', '.join(row)}.")
    item = str(row.get("id") or where)
    for field in fields or [field for field in row if field != "id"]:
        for text in _texts_in(row[field]):
            yield ProtectedText(benchmark, item, field, text, whole=bool(fields))


def _texts_in(value: Any) -> Iterator[str]:
    """Yields all text in a JSON value, without keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(inner)
