"""How a verifier travels to a worker: as the name of its class and its fields in JSON, never as a pickle."""

import dataclasses
import functools
import importlib
import json
from typing import Any

from phi4r.errors import UserError
from phi4r.settings import build
from phi4r.verifiers.verdict import TwoSpeedVerifier, Verifier


def specification(verifier: Verifier) -> dict[str, Any]:
    """Returns what a worker needs to rebuild a verifier: where its class is and what its fields hold.

    Raises:
      UserError: if it is no frozen dataclass that a fresh interpreter can import.
    """
    cls = type(verifier)
    frozen = dataclasses.is_dataclass(verifier) and cls.__dataclass_params__.frozen
    if not frozen or "<locals>" in cls.__qualname__ or cls.__module__ == "__main__":
        raise UserError(
            f"{cls.__qualname__} cannot run in a verifier worker; make it a frozen dataclass at the top level of a "
            "module that can be imported (not a script, a notebook or a function)."
        )
    return {"type": f"{cls.__module__}:{cls.__qualname__}", "fields": dataclasses.asdict(verifier)}


def key_of(specification: dict[str, Any]) -> str:
    """Returns the string under which a worker keeps a loaded verifier."""
    return json.dumps(specification, sort_keys=True)


def verifier_class(name: str) -> Any:
    """Returns the class that "module:Class" names.

    Raises:
      ImportError, AttributeError, ValueError: if there is none; the caller knows where the name came from.
    """
    module, _, qualified_name = name.partition(":")
    return functools.reduce(getattr, qualified_name.split("."), importlib.import_module(module))


def rebuild(specification: dict[str, Any]) -> Verifier:
    """Returns the verifier of a specification, imported and warmed up."""
    cls = verifier_class(specification["type"])
    verifier = build(cls, specification["fields"], where=cls.__qualname__)
    if isinstance(verifier, TwoSpeedVerifier):
        verifier.warm_up()
    return verifier
