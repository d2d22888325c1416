"""Compares what functions returned, as `function_driver` writes it, in a process that never ran them.

What the model's program reports is any text. It is parsed as JSON and compared with the right output, whose shape and
size bound the work; nothing that a program defines (`__eq__`, `__hash__`, a type) comes along.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

_RELATIVE = 1e-7
_FLOAT_ATOL = 1e-6  # where the task names none and the right output is of floats
_SETS = ("set", "frozenset")


def same_report(expected: bytes, reported: bytes, *, atol: float = 0.0) -> bool:
    """Whether a reported value is the expected one.

    Values are equal as in Python, where `1 == 1.0 == True` but a tuple is no list; and NaN equals itself. Numbers, and
    lists and tuples of them, may differ by `atol` and 1e-7 of their size if both are of one type.

    Args:
      expected: JSON text, written by a program that is trusted.
      reported: any text.
      atol: tolerance; if 0, it is 1e-6 where `expected` holds floats alone.
    """
    if expected == reported:
        return True
    try:
        right, value = json.loads(expected), json.loads(reported)
        return _equal(value, right) or _close(value, right, atol)
    except (ValueError, TypeError, OverflowError, RecursionError):  # no JSON, or not as the driver writes it
        return False


def is_zero_of(coefficients: Sequence[float], reported: bytes, *, atol: float) -> bool:
    """Whether a reported value is a real number where a polynomial, lowest power first, is 0 within `atol`."""
    try:
        x = json.loads(reported)
        if isinstance(x, bool) or not isinstance(x, int | float):
            return False
        return abs(sum(coefficient * math.pow(x, i) for i, coefficient in enumerate(coefficients))) <= atol
    except (ValueError, OverflowError, RecursionError):
        return False


def _equal(value: Any, right: Any) -> bool:
    if isinstance(right, list):
        return isinstance(value, list) and len(value) == len(right) and all(map(_equal, value, right))
    if not isinstance(right, dict):
        if isinstance(value, list | dict):
            return False
        return _same_number(value, right)
    ((kind, content),) = right.items()
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((value_kind, value_content),) = value.items()
    if kind == "other" or (value_kind != kind and not (value_kind in _SETS and kind in _SETS)):
        return False
    if len(value_content) != len(content):
        return False
    if kind == "dict":
        values, rights = ({_key(key): item for key, item in pairs} for pairs in (value_content, content))
        return values.keys() == rights.keys() and all(_equal(values[key], item) for key, item in rights.items())
    if kind in _SETS:
        return set(map(_key, value_content)) == set(map(_key, content))
    return _equal(value_content, content)


def _key(value: Any) -> Any:
    """Returns what stands for a member of a set or a key of a dict.

    Raises:
      TypeError: for a value that could be none.
    """
    if isinstance(value, list):
        raise TypeError("lists cannot be hashed")
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in ("tuple", "complex"):
        return kind, *map(_key, content)
    if kind == "frozenset":
        return frozenset(map(_key, content))
    return kind, str(content)


def _close(value: Any, right: Any, atol: float) -> bool:
    values, rights = _numbers(value), _numbers(right)
    if values is None or rights is None or values[0] is not rights[0] or len(values[1]) != len(rights[1]):
        return False
    if not atol and rights[1] and all(isinstance(number, float) for number in rights[1]):
        atol = _FLOAT_ATOL
    if not atol:
        return False
    return all(
        _same_number(x, y) or (math.isfinite(y) and abs(x - y) <= atol + _RELATIVE * abs(y))
        for x, y in zip(values[1], rights[1], strict=True)
    )


def _same_number(value: Any, right: Any) -> bool:
    return value == right or (value != value and right != right)  # NaN


def _numbers(value: Any) -> tuple[type, list[float]] | None:
    """Returns the type of a value and the real numbers in it, or None if it holds anything else."""
    kind: type = type(value)
    if isinstance(value, dict):
        kind, value = tuple, value.get("tuple")
    if kind in (int, float):
        value = [value]
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        return None
    return kind, value
