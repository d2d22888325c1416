"""Whether a program computed what it should; nothing of its output is evaluated."""

import json
import re
from decimal import Decimal
from typing import Any

_MAX_NUMBER = 64  # characters
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")


def same_output(expected: str, written: str) -> bool:
    """Whether two outputs agree line by line, blank space around lines aside.

    Lines that differ as text agree if they hold equal numbers: `1.50 2` is `1.5 2.0`. There is no tolerance.
    """
    expected_lines, lines = expected.strip().split("\n"), written.strip().split("\n")
    return len(expected_lines) == len(lines) and all(map(_same_line, expected_lines, lines))


def same_value(expected: Any, report: bytes) -> bool:
    """Whether a report, a JSON list of the one value that a function returned, holds the value `expected`.

    Args:
      expected: of JSON types.
      report: from the process that ran the function: any bytes.
    """
    try:
        values = json.loads(report)
        return isinstance(values, list) and len(values) == 1 and values[0] == expected
    except (ValueError, RecursionError):  # no JSON, no Unicode, a number of thousands of digits, or deep nesting
        return False


def _same_line(expected: str, line: str) -> bool:
    expected, line = expected.strip(), line.strip()
    if expected == line:
        return True
    numbers = _numbers(expected)
    return numbers is not None and numbers == _numbers(line)


def _numbers(line: str) -> list[Decimal] | None:
    """Returns the numbers of a line; None for an empty one, or if anything in it is no number."""
    words = line.split()
    if not words or any(len(word) > _MAX_NUMBER or not _NUMBER.fullmatch(word) for word in words):
        return None
    return [Decimal(word) for word in words]
