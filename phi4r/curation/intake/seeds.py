"""Seeds (section 2.1 of the paper): the prompts that curation starts from, from files of any form.

Rows of every source become items: fields are renamed, texts tidied. What cannot be used is quarantined with its place:
a row that is damaged or lacks a prompt, and all rows of a licence that forbids their use. The rest goes on, and into
the seeds database (`phi4r.curation.intake.seed_database`).
"""

import dataclasses
import fnmatch
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from phi4r.curation.folder import Malformed, Result
from phi4r.curation.intake.seed_database import SeedDatabase, SeedImport
from phi4r.curation.intake.texts import tidied
from phi4r.curation.item import Item, item_id
from phi4r.curation.stage import Outcome, dropped, failed, kept
from phi4r.data.tables import Rows, read_rows
from phi4r.errors import UserError

NAME = "seeds"
_TEXTS = ("prompt", "answer", "thought", "solution")
_FIELDS = ("id", *_TEXTS, "licence", "domain")
_TASK = "task:"
_WHERE = re.compile(r".*?(:| row )\d+\b")  # what the message of a damaged row begins with


@dataclasses.dataclass(frozen=True)
class SourceSettings:
    """Where seeds come from.

    Attributes:
      place: a file (.jsonl, .jsonl.gz, .json, .csv, .parquet), a folder or pattern of them, "tfds:NAME/SPLIT[@FOLDER]",
        or "task:SPEC" for the problems of a task (`phi4r evaluate --tasks`), whose spec the items note as `task`.
      licence: of the data, as its card says.
      domain: as "math"; empty if rows say so, or nobody knows.
      fields: field of an item -> field of a row, where they are not called the same, as {"prompt": "question"}; items
        have id, prompt, answer, thought, solution, licence, domain. A licence that a row names comes before that of
        the source, a domain only if it stands in `fields`. What else a row has goes into meta.
      answer_after: the answer is what follows the last of these marks in its field, as "####" in GSM8K, whose answers
        end their solutions; empty for all of the field.
      limit: most rows that are taken, 0 for all.
    """

    place: str
    licence: str
    domain: str = ""
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    answer_after: str = ""
    limit: int = 0

    def __post_init__(self):
        if not self.place or not self.licence.strip():
            raise UserError("a source of seeds needs place, where its rows are, and licence, as its card says.")
        unknown = next((name for name in self.fields if name not in _FIELDS), None)
        if unknown is not None:
            raise UserError(f"{self.place}: fields has {unknown!r}; items have {', '.join(_FIELDS)}.")
        if self.limit < 0:
            raise UserError(f"{self.place}: limit={self.limit} must be at least 1, or 0 for all rows.")


@dataclasses.dataclass(frozen=True)
class SeedSettings:
    """All sources, and what may be used. Which ones the paper took is not in it.

    Attributes:
      sources: by name; they are read in the order of their names.
      allowed_licences: patterns, as "CC-BY-*"; empty allows all that are not denied. Capitals do not matter.
      denied_licences: patterns of licences that forbid use, also of those that are allowed.
      database: file of the seeds database, which runs may share; empty for seeds.sqlite in the workdir.
    """

    sources: dict[str, SourceSettings]
    allowed_licences: tuple[str, ...] = ()
    denied_licences: tuple[str, ...] = ()
    database: str = ""

    def __post_init__(self):
        if not self.sources:
            raise UserError(
                "seeds needs sources, at least one, as sources.mine.place=FILE and sources.mine.licence=MIT."
            )

    def allows(self, licence: str) -> bool:
        """Whether data of a licence may be used."""
        return _matches(licence, self.allowed_licences or ("*",)) and not _matches(licence, self.denied_licences)


class Seeds:
    """The stage that has no items before it."""

    name = NAME

    def __init__(self, settings: SeedSettings, database: pathlib.Path, *, reserved: Iterable[str] = ()):
        """Finds all places.

        Args:
          settings: the sources.
          database: file of the seeds database, where settings name none.
          reserved: names in meta that belong to stages; fields of rows that are called so become "row_NAME".

        Raises:
          UserError: for a place that there is not.
        """
        self._settings, self._reserved = settings, frozenset(reserved)
        self._database = pathlib.Path(settings.database) if settings.database else database
        self._rows = {name: _open(settings.sources[name].place) for name in sorted(settings.sources)}

    def survey(self) -> tuple[str, int]:
        """Returns a hash of the rows of all sources, and how many there are with damaged ones; it reads them once."""
        digest, num_rows = hashlib.sha256(), 0
        for name, rows in self._rows.items():
            digest.update(f"{name}\n".encode())
            for _, row in self._limited(name):
                digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
                num_rows += 1
            num_rows += sum(1 for _ in self._malformed(rows, 0, name))
        return digest.hexdigest(), num_rows

    def results(self) -> Iterator[Result]:
        """Yields the seeds, the rows that are none, and the seeds of licences that forbid use.

        Raises:
          UserError: for a source without rows, or one whose rows are all malformed, a file that is damaged as a whole,
            or a database that cannot be written.
        """
        database = SeedDatabase(self._database)
        settings = json.loads(json.dumps(dataclasses.asdict(self._settings)))
        try:
            with database.importing(settings) as started:
                for name in self._rows:
                    num_items, first_fault = 0, ""
                    for result in self._results_of(name):
                        if isinstance(result, Malformed):
                            first_fault = first_fault or f" ({result.reason})"
                            yield result
                        else:
                            num_items += 1
                            yield _imported(result, started)
                    if not num_items:
                        place = self._settings.sources[name].place
                        raise UserError(f"the source {name!r} has no seeds: no row of {place} is one{first_fault}.")
        finally:
            database.close()

    def _results_of(self, name: str) -> Iterator[Result]:
        """Yields what the rows of a source are, before they meet the database."""
        source, rows = self._settings.sources[name], self._rows[name]
        told = 0
        for where, row in self._limited(name):
            yield from self._malformed(rows, told, name)
            told = len(rows.malformed) if isinstance(rows, Rows) else 0
            try:
                item = _item(row, name, source, where, self._reserved)
            except UserError as error:
                yield Malformed(where, str(error), name)
                continue
            if source.place.startswith(_TASK):
                item = item.noted(NAME, task=source.place.removeprefix(_TASK))
            allowed = self._settings.allows(item.licence)
            yield kept(item) if allowed else failed(item, f"licence {item.licence} is not allowed")
        yield from self._malformed(rows, told, name)

    def _malformed(self, rows: Iterable, told: int, name: str) -> Iterator[Malformed]:
        """Yields the damaged rows since the last one that was told."""
        for message in rows.malformed[told:] if isinstance(rows, Rows) else ():
            where = _WHERE.match(message)
            yield Malformed(where[0] if where else self._settings.sources[name].place, message, name)

    def _limited(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        limit = self._settings.sources[name].limit
        for number, located in enumerate(self._rows[name], start=1):
            yield located
            if number == limit:
                return


def _imported(seed: Outcome, started: SeedImport) -> Outcome:
    """Returns what becomes of a seed that may be used, when the database has looked at it."""
    if seed.failed:
        return seed
    standing = started.add(seed.item)
    if standing == "repeated":
        return dropped(seed.item, "the same row again")
    if standing == "conflict":
        return failed(seed.item, "another row of this id or prompt differs")
    return seed


def _item(row: Mapping[str, Any], name: str, source: SourceSettings, where: str, reserved: frozenset[str]) -> Item:
    """Returns the item of a row.

    Raises:
      UserError: for a row without a prompt, or with a field that is no text.
    """
    used = {field: source.fields.get(field, field) for field in _FIELDS}
    for label in ("licence", "domain"):
        said = isinstance(row.get(label), str) and not (label == "domain" and source.domain)
        if label not in source.fields and not said:
            del used[label]
    texts = {field: tidied(_text(row, key, where)) for field, key in used.items()}
    if not texts["prompt"]:
        raise UserError(
            f"{where} has no {used['prompt']!r}: give each row a prompt, or name its field in fields.prompt."
        )
    if source.answer_after:
        _, mark, answer = texts["answer"].rpartition(source.answer_after)
        if not mark:
            raise UserError(
                f"{where}: {used['answer']!r} has no {source.answer_after!r}, after which the answer stands."
            )
        texts["answer"] = answer.strip()
        if used["solution"] == used["answer"]:
            texts["solution"] = texts["solution"].rpartition(source.answer_after)[0].strip()
    row_id = texts.pop("id")
    texts["licence"] = texts.get("licence") or source.licence
    texts["domain"] = texts.get("domain") or source.domain
    return Item(
        id=f"{name}/{row_id}" if row_id else item_id(name, texts["prompt"]),
        source=name,
        meta=_rest(row, {*used.values(), "meta"}, where, reserved | {"source", "licence", "domain"}),
        **texts,
    )


def _rest(row: Mapping[str, Any], used: set[str], where: str, reserved: frozenset[str]) -> dict[str, Any]:
    """Returns what a row has besides the fields of an item.

    Raises:
      UserError: for a value that is none of JSON.
    """
    inner = row["meta"] if isinstance(row.get("meta"), dict) else {}
    rest = {**inner, **{key: value for key, value in row.items() if key not in used}}
    try:
        json.dumps(rest)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} has a field that JSON cannot hold ({error}); leave it out.") from error
    return {f"row_{key}" if key in reserved else key: value for key, value in rest.items()}


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    """Returns a field of a row as text; numbers are written out, and what is missing is empty."""
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UserError(f"{where}: {key!r} must be text, not {type(value).__name__}.")
    return value


def _open(place: str) -> Rows | list[tuple[str, dict[str, Any]]]:
    """Finds the rows of a place."""
    if not place.startswith(_TASK):
        return read_rows(place)
    from phi4r.evals.specs import load_task

    spec = place.removeprefix(_TASK)
    problems = load_task(spec).problems
    return [(f"{spec} problem {number}", problem.to_dict()) for number, problem in enumerate(problems, start=1)]


def _matches(licence: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(licence.casefold(), pattern.casefold()) for pattern in patterns)
