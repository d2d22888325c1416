"""Item: the record that every stage of curation reads and writes, one JSON object a line.

    {"id", "prompt", "answer", "thought", "solution", "source", "licence", "domain", "meta"}

A seed has a prompt and maybe an answer; a stage fills in the rest. What a stage finds out about an item it writes into
`meta` under the stage's own name, so that every decision can be read off the item, and nothing is overwritten.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem, Trace
from phi4r.errors import UserError

_TEXTS = ("id", "prompt", "answer", "thought", "solution", "source", "licence", "domain")


@dataclasses.dataclass(frozen=True)
class Item:
    """A prompt on its way into the training set.

    Attributes:
      id: stays the same through all stages, on every machine; made from source and prompt where a row has none.
      prompt: what the user says.
      answer: the short reference answer: the gold one, or the plurality of a strong model (section 2.1); empty where
        none is known.
      thought: of the teacher, without its tags; empty before there is one.
      solution: of the teacher, what follows the thought.
      source: name of the source in the config.
      licence: of the source's data, as its card says.
      domain: as "math", "code", "science", "safety".
      meta: what stages found out, under their names, and what the row had besides; JSON values.
    """

    id: str
    prompt: str
    answer: str = ""
    thought: str = ""
    solution: str = ""
    source: str = ""
    licence: str = ""
    domain: str = ""
    meta: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], *, where: str = "the row") -> "Item":
        """Reads what `to_dict` wrote.

        Raises:
          UserError: for an unknown key, a missing id or prompt, or a value that is not of its type; it names `where`.
        """
        unknown = sorted(set(row) - {*_TEXTS, "meta"})
        if unknown:
            raise UserError(f"{where} has the unknown field {unknown[0]!r}; items have {', '.join(_TEXTS)} and meta.")
        for name in ("id", "prompt"):
            if not row.get(name):
                raise UserError(f"{where} has no {name}; give each item one.")
        wrong = next((name for name in _TEXTS if not isinstance(row.get(name, ""), str)), None)
        if wrong is not None:
            raise UserError(f"{where}: {wrong!r} must be text, not {type(row[wrong]).__name__}.")
        if not isinstance(row.get("meta", {}), dict):
            raise UserError(f"{where}: 'meta' must be an object with keys, not {type(row['meta']).__name__}.")
        return cls(**row)

    def to_dict(self) -> dict[str, Any]:
        """Returns the row that `from_dict` reads; its `meta` is that of the item, and no copy."""
        return {**{name: getattr(self, name) for name in _TEXTS}, "meta": self.meta}

    def noted(self, stage: str, **found: Any) -> "Item":
        """Returns the item with what a stage found out, in `meta[stage]`."""
        # Every stage does this to every item, and `dataclasses.replace` was most of what a cheap stage took.
        item = object.__new__(Item)
        item.__dict__.update(self.__dict__, meta={**self.meta, stage: {**self.meta.get(stage, {}), **found}})
        return item

    def problem(self) -> Problem:
        """Returns the item as a problem for reinforcement learning.

        Raises:
          UserError: if it has no answer.
        """
        if not self.answer.strip():
            raise UserError(f"item {self.id} has no answer, so it cannot be a problem of reinforcement learning.")
        return Problem(self.id, self.prompt, self.answer, self._origin())

    def trace(self) -> Trace:
        """Returns the item as a trace for supervised fine-tuning.

        Raises:
          UserError: if it has no solution.
        """
        if not self.solution.strip():
            raise UserError(f"item {self.id} has no solution, so it cannot be a trace of supervised fine-tuning.")
        return Trace(self.id, self.prompt, self.thought, self.solution, self.answer, self._origin())

    def _origin(self) -> dict[str, Any]:
        return {"source": self.source, "licence": self.licence, "domain": self.domain, **self.meta}


def item_id(source: str, prompt: str) -> str:
    """Returns the id of an item whose row has none: a hash that does not depend on its place in a file."""
    return hashlib.sha256(f"{source}\n{prompt}".encode(errors="surrogatepass")).hexdigest()[:16]
