"""From sections of a config to frozen dataclasses, once, at the edge of the program.

A config file is pure data (an `ml_collections.ConfigDict`). Each section has a frozen dataclass beside the code
that it steers (`OptimizerSettings`, `GrpoSettings`, ...); `build` turns one into the other and refuses a key that
the dataclass does not know, so that a misspelt key cannot be ignored in silence.
"""

import contextlib
import dataclasses
import difflib
import os
import sys
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from phi4r.errors import UserError

T = TypeVar("T")


def build(cls: type[T], section: Mapping[str, Any], *, where: str) -> T:
    """Builds the frozen dataclass `cls` from `section`.

    Args:
      cls: a dataclass; nested dataclass fields are built from nested sections.
      section: the mapping read from the config.
      where: the dotted name of the section, for messages (`config.optimizer`).

    Raises:
      UserError: for an unknown key (with the nearest known one), a missing one or a value of another type.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    for key in section:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {where}.{near[0]}?" if near else f"known keys: {', '.join(sorted(known))}."
            raise UserError(f"{where}.{key} is not a setting; {hint}")
    values = {}
    for name, field in known.items():
        if name in section:
            values[name] = _convert(section[name], hints[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}.{name} is missing; give it in the config file or with --{where}.{name}=...")
    return cls(**values)


def let_configs_import() -> None:
    """Lets config files import each other (`from configs import common`) under a command as under `python -m`."""
    if (folder := os.getcwd()) not in sys.path:
        sys.path.append(folder)


def first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Returns the dotted name and both values of the first place where two nested mappings differ; None if nowhere.

    A place that one of them lacks counts as None there.
    """
    old, new = _leaves(before), _leaves(now)
    name = next((name for name in [*old, *new] if old.get(name) != new.get(name)), None)
    return None if name is None else (name, old.get(name), new.get(name))


def _leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings under dotted names."""
    if not isinstance(values, Mapping) or not values:
        return {prefix: values}
    parts = (_leaves(value, f"{prefix}.{key}" if prefix else key) for key, value in values.items())
    return {name: value for part in parts for name, value in part.items()}


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Returns `value` as the type `hint`; ints become floats, lists tuples, mappings nested dataclasses."""
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise UserError(f"{where} must be a section with keys, not {value!r}.")
        return build(hint, value, where=where)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, typing.get_args(hint), where)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise UserError(f"{where} must be one of {list(typing.get_args(hint))}, not {value!r}.")
        return value
    if origin is tuple and isinstance(value, list | tuple):
        inner = typing.get_args(hint)[0]
        return tuple(_convert(v, inner, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        inner = typing.get_args(hint)[1]
        return {k: _convert(v, inner, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (isinstance(hint, type) and type(value) is hint):
        return value
    raise UserError(f"{where} must be {getattr(hint, '__name__', hint)}, not {value!r}.")


def _convert_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    """Returns `value` as the first of `options` that takes it; the error is the last one's."""
    if value is None and type(None) in options:
        return None
    *others, last = [option for option in options if option is not type(None)]
    for option in others:
        with contextlib.suppress(UserError):
            return _convert(value, option, where)
    return _convert(value, last, where)
