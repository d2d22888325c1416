"""Files that stages will want to read, looked for before the first one runs: not after hours of asking models."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from phi4r.errors import UserError

_FILES = ("tokenizer", "guidelines_file", "allow_list")  # settings of stages that name a file or a folder


def check_places(stages: Mapping[str, Any], generators: Mapping[str, Any]) -> None:
    """Looks for the files and folders that settings name.

    Args:
      stages: name -> settings, of the stages that will run.
      generators: name -> `GeneratorSettings`.

    Raises:
      UserError: for the first that there is not, under the name of its setting.
    """
    named = [place for name, settings in stages.items() for place in _named(settings, f"config.stages.{name}")]
    for name, generator in generators.items():
        field = {"sampler": "model", "recorded": "path"}.get(generator.kind)
        named += [(f"config.generators.{name}.{field}", getattr(generator, field))] if field else []
    for where, path in named:
        if path and not os.path.exists(path):
            raise UserError(f"{where}: there is no file or folder {path}; check the path.")


def _named(settings: Any, where: str) -> Iterator[tuple[str, str]]:
    """Yields the dotted name of each setting that names a file, and what it names."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _named(value, f"{where}.{field.name}")
        elif field.name in _FILES:
            yield f"{where}.{field.name}", value
