"""The arguments of an instruction, read with care: they come from a data file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from phi4r.errors import UserError

Check = Callable[[str], bool]
Limit = Callable[[int], bool]

_MAX_COUNT = 1_000_000
_MAX_LENGTH = 10_000
_MAX_TEXTS = 100


@dataclass(frozen=True)
class Arguments:
    """What an instruction asks for.

    Attributes:
      instruction: its id, for messages.
      values: the entry of `kwargs` in the data; None stands for a value that is not there.
      compat: whether the published scorer's quirks are reproduced.
    """

    instruction: str
    values: Mapping[str, Any]
    compat: bool = False

    def count(self, name: str) -> int:
        """Returns a whole number that is not negative; a table with gaps may have made it a float.

        Raises:
          UserError: if it is missing or something else.
        """
        value = self.values.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_COUNT:
            raise self.malformed(name, f"a whole number from 0 to {_MAX_COUNT}")
        return value

    def limit(self, number: str, relation: str) -> Limit:
        """Returns whether a count is "at least", or "less than", the number asked for.

        Raises:
          UserError: if number or relation is malformed.
        """
        bound = self.count(number)
        match self.values.get(relation):
            case "at least":
                return lambda count: count >= bound
            case "less than":
                return lambda count: count < bound
        raise self.malformed(relation, "'at least' or 'less than'")

    def text(self, name: str) -> str:
        """Returns a text without blanks around it.

        Raises:
          UserError: if it is missing, empty or too long.
        """
        return self._text(self.values.get(name), name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Returns a list of texts.

        Raises:
          UserError: if it is missing, empty or has another kind of entry.
        """
        values = self.values.get(name)
        if not isinstance(values, list | tuple) or not 0 < len(values) <= _MAX_TEXTS:
            raise self.malformed(name, f"a list of 1 to {_MAX_TEXTS} texts")
        return tuple(self._text(value, name) for value in values)

    def _text(self, value: Any, name: str) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > _MAX_LENGTH:
            raise self.malformed(name, "a text that is not empty")
        return value.strip()

    def malformed(self, name: str, wanted: str) -> UserError:
        """Returns the error that says what an argument should have been."""
        value = repr(self.values.get(name))
        return UserError(f"instruction {self.instruction} needs '{name}' to be {wanted}, not {value[:60]}.")
