"""Fields of published rows: several spellings of one thing, and ids for rows that have none."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.errors import UserError

HASHED = "sha256-"  # how ids begin that were made from the text of a question


def first_of(row: Mapping[str, Any], keys: Sequence[str], where: str) -> Any:
    """Returns the value of the first of `keys` that the row has.

    Args:
      row: of a published set.
      keys: the spellings of one field, as written in the versions of that set.
      where: "file:line", for the message.

    Raises:
      UserError: if the row has none of them.
    """
    for key in keys:
        if row.get(key) is not None:
            return row[key]
    present = ", ".join(map(str, row)) or "nothing"
    raise UserError(f"{where} has no {' or '.join(map(repr, keys))} (it has: {present}); is this the right data set?")


def text_of(row: Mapping[str, Any], keys: Sequence[str], where: str) -> str:
    """Returns that value as text without blank space around it; whole numbers are written out.

    Raises:
      UserError: if the row has none of `keys`, or the value is no text or empty.
    """
    value = first_of(row, keys, where)
    if isinstance(value, float) and value.is_integer():  # a column of numbers with gaps is read as floats
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    name = next(key for key in keys if row.get(key) is not None)
    if not isinstance(value, str):
        raise UserError(f"{where}: {name!r} must be text, not {type(value).__name__}.")
    if not value.strip():
        raise UserError(f"{where}: {name!r} is empty; fill it in or leave the row out.")
    return value.strip()


def row_id(row: Mapping[str, Any], keys: Sequence[str], question: str) -> str:
    """Returns the row's own id, from the first of `keys` that it has, else one made of its question.

    Several rows may then share one: `load_benchmark` numbers questions that a set without ids repeats.
    """
    for key in keys:
        if row.get(key) not in (None, ""):
            return str(row[key])
    return HASHED + hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()[:16]
