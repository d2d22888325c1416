"""Problem and Trace: what the recipe reads and writes as JSON lines.

    Problem   {"id", "prompt", "answer", "meta"}                          what RL and evaluation ask
    Trace     {"id", "prompt", "thought", "solution", "answer", "meta"}   what SFT learns from
    chat      {"messages": [{"role", "content"}, ...]}                    any conversation; SFT takes it too

Keys beyond these are kept in `meta`. A row without an id gets one from its prompt, so it stays the same on every
machine and in any order of the file.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from phi4r.errors import UserError
from phi4r.text.template import Message


@dataclasses.dataclass(frozen=True)
class Problem:
    """A prompt whose answer can be checked.

    Attributes:
      id: names the problem; sampling keys are drawn from it.
      prompt: what the user says.
      answer: the reference that a verifier compares with; never empty.
      meta: anything else (source, year, difficulty), as JSON values.
    """

    id: str
    prompt: str
    answer: str
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], *, where: str = "the row") -> "Problem":
        """Reads a row; `where` is "file:line" for messages.

        Raises:
          UserError: for a missing prompt or answer, or a value that is not text.
        """
        prompt = _text(row, "prompt", where)
        answer = _text(row, "answer", where)
        return cls(_id(row, prompt, where), prompt, answer, _meta(cls, row, where))

    def to_dict(self) -> dict[str, Any]:
        """Returns the row that `from_dict` reads."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Trace:
    """A prompt with a teacher's thought and solution (section 2.2 of the paper).

    Attributes:
      id: names the trace.
      prompt: what the user says.
      thought: the text between `<think>` and `</think>`.
      solution: the text after `</think>`.
      answer: the short final answer; empty where there is none to check (safety data).
      meta: anything else, as JSON values.
    """

    id: str
    prompt: str
    thought: str
    solution: str
    answer: str
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], *, where: str = "the row") -> "Trace":
        """Reads a row; `where` is "file:line" for messages.

        Raises:
          UserError: for a missing key, or a value that is not text. Only `answer` may be the empty string.
        """
        prompt = _text(row, "prompt", where)
        thought = _text(row, "thought", where)
        solution = _text(row, "solution", where)
        answer = _text(row, "answer", where, allow_empty=True)
        return cls(_id(row, prompt, where), prompt, thought, solution, answer, _meta(cls, row, where))

    def to_dict(self) -> dict[str, Any]:
        """Returns the row that `from_dict` reads."""
        return dataclasses.asdict(self)

    def messages(self) -> list[Message]:
        """Returns the conversation that SFT learns: the prompt, and `<think>{thought}</think>{solution}`.

        No blank or newline is added around the tags: what the writer put into thought and solution is what the model
        learns, and the same convention splits a response.
        """
        response = f"<think>{self.thought}</think>{self.solution}"
        return [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": response}]


Record = TypeVar("Record", Problem, Trace)


def training_messages(row: Mapping[str, Any], *, where: str = "the row") -> list[Message]:
    """Returns the conversation of a training row, in chat form or as a Trace.

    Raises:
      UserError: if the row is neither, or a conversation that does not end with the assistant.
    """
    if "messages" not in row:
        return Trace.from_dict(row, where=where).messages()
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise UserError(f"{where}: 'messages' must be a list of at least one message, not {_short(messages)}.")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise UserError(
                f"{where}: message {index} must be {{'role': text, 'content': text}}, not {_short(message)}."
            )
    if messages[-1]["role"] != "assistant":
        raise UserError(
            f"{where}: the last message is of role {messages[-1]['role']!r}; end with the assistant's, or nothing is"
            " learnt."
        )
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def parse_row(line: str | bytes, *, where: str) -> dict[str, Any]:
    """Parses one JSON object.

    Raises:
      UserError: if the text is not JSON, not UTF-8, or not an object.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not valid JSON ({error}); write one JSON object on each line.") from error
    if not isinstance(row, dict):
        raise UserError(f"{where} must be a JSON object with keys, not {_short(row)}.")
    return row


def read_jsonl(path: str | os.PathLike, record_type: type[Record]) -> list[Record]:
    """Reads a whole file of Problems or Traces; blank lines are skipped.

    Raises:
      UserError: for a missing or empty file, or a bad line, with its number.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}; give the path of a JSONL file.")
    records = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                where = f"{path}:{number}"
                records.append(record_type.from_dict(parse_row(line, where=where), where=where))
    if not records:
        raise UserError(f"{path} has no rows; write one JSON object on each line.")
    return records


def write_jsonl(path: str | os.PathLike, rows: Iterable[Problem | Trace | Mapping[str, Any]]) -> None:
    """Writes rows, one JSON object a line, whole or not at all.

    Raises:
      UserError: if the folder cannot be written.
    """
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(as_row(row), ensure_ascii=False) + "\n")


def write_json(path: str | os.PathLike, values: Any) -> None:
    """Writes one JSON value, indented, whole or not at all.

    Raises:
      UserError: if the folder cannot be written.
    """
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def as_row(row: Problem | Trace | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record, or a mapping, as a plain dict."""
    return row.to_dict() if isinstance(row, Problem | Trace) else dict(row)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary name beside `path` that becomes `path` if the block ends well, and goes away if not.

    Raises:
      UserError: if the folder cannot be made or written.
    """
    path = pathlib.Path(path)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another path.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _text(row: Mapping[str, Any], key: str, where: str, *, allow_empty: bool = False) -> str:
    """Returns `row[key]` as text; a number is written out, since answers often are numbers."""
    value = row.get(key)
    if value is None:
        article = "an" if key[0] in "aeiou" else "a"
        present = ", ".join(row) or "nothing"
        raise UserError(f"{where} has no '{key}': give each row {article} {key} (this one has: {present}).")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise UserError(f"{where}: '{key}' must be text, not {_short(value)}.")
    if not allow_empty and not value.strip():
        raise UserError(f"{where}: '{key}' is empty; fill it in or leave the row out.")
    return value


def _id(row: Mapping[str, Any], prompt: str, where: str) -> str:
    if row.get("id") is None:
        return hashlib.sha256(prompt.encode()).hexdigest()[:16]
    return _text(row, "id", where)


def _meta(cls: type, row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns the row's `meta` and every key that the record type does not know."""
    meta = row.get("meta")
    if meta is not None and not isinstance(meta, Mapping):
        raise UserError(f"{where}: 'meta' must be an object with keys, not {_short(meta)}.")
    known = {field.name for field in dataclasses.fields(cls)}
    return {**(meta or {}), **{key: value for key, value in row.items() if key not in known}}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
