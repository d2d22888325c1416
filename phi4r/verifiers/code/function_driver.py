"""What calls a function inside the sandbox: the text of this file is the program.

Beside it lie `answer.py`, whose function is called; `prompt.py`, whose imports and helper functions the answer may use;
`calls.json` with the name of the function and the seconds that each call may take; and `inputs.jsonl`, a list of
arguments on each line. Each call is reported at once, on a line: its seconds, a blank, and what it returned.

Nothing here is out of the answer's reach, and nothing needs to be: the right outputs are not there, and what is
reported is compared elsewhere. The first call that fails or takes too long ends the process.

JSON has too few types for what functions return, so a value is written as

    null, true, 1, 1.5, "text", [..]      itself
    {"tuple": [..]}, {"set": [..]}, {"frozenset": [..]}, {"dict": [[key, value], ..]}
    {"int": "-0xff"}, {"complex": [re, im]}, {"bytes": "ff00"}      ints of more than 512 bits, and others
    {"other": "name of its type"}         not comparable

and one whose text is longer than 64 KiB as {"sha256": "..."} of its normal form, in which what Python takes to be equal
is written alike: it can only be compared exactly.
"""

import hashlib
import importlib.util
import json
import os
import signal
import sys
import time
import types
from typing import Any

_MAX_BITS = 512
_MAX_DEPTH = 100
_MAX_CHARACTERS = 1 << 16


def encode(value: Any, depth: int = 0) -> Any:
    """Returns a value in JSON types; that of a subclass as one of its base class, whatever it overrides.

    Raises:
      ValueError: for lists within lists more than 100 deep.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if value is None or value is True or value is False:
        return value
    bases = type(value).__mro__
    if str in bases:
        return str.__str__(value)
    if int in bases:
        number = int.__index__(value)
        return number if number.bit_length() <= _MAX_BITS else {"int": hex(number)}
    if float in bases:
        return float.__float__(value)
    if dict in bases:
        return {"dict": [[encode(key, depth + 1), encode(item, depth + 1)] for key, item in dict.items(value)]}
    for base in (list, tuple, set, frozenset):
        if base in bases:
            items = [encode(item, depth + 1) for item in base.__iter__(value)]
            return items if base is list else {base.__name__: items}
    if complex in bases:
        return {"complex": [value.real, value.imag]}
    if bytes in bases or bytearray in bases:
        return {"bytes": bytes(value).hex()}
    return {"other": type(value).__name__}


def normal(encoded: Any) -> Any:
    """Returns an encoded value such that values which are equal in Python get equal texts."""
    if isinstance(encoded, list):
        return list(map(normal, encoded))
    if isinstance(encoded, bool | float) and encoded == encoded and abs(encoded) != float("inf"):
        return encode(int(encoded)) if encoded == int(encoded) else encoded
    if not isinstance(encoded, dict):
        return encoded
    ((kind, content),) = encoded.items()
    if kind in ("set", "frozenset", "dict"):
        return {"dict" if kind == "dict" else "set": sorted(map(normal, content), key=json.dumps)}
    return {kind: normal(content)}


def report_of(value: Any) -> str:
    """Returns the text that is reported for a value."""
    encoded = encode(value)
    text = json.dumps(encoded)
    if len(text) <= _MAX_CHARACTERS:
        return text
    return json.dumps({"sha256": hashlib.sha256(json.dumps(normal(encoded)).encode()).hexdigest()})


def load(name: str, names: dict[str, Any]) -> types.ModuleType:
    """Runs `NAME.py` as a module that has `names` from the start."""
    spec = importlib.util.spec_from_file_location(name, f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Calls the function with one input after the other."""
    reports = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # what the answer prints is no report
        os.dup2(nothing, stream)
    with open("calls.json", encoding="utf-8") as file:
        calls = json.load(file)
    with open("inputs.jsonl", "rb") as file:
        inputs = file.read().splitlines()
    prompt = vars(load("prompt", {}))
    helpers = {name: value for name, value in prompt.items() if not name.startswith("__")}
    helpers.pop(calls["entry_point"], None)  # the function to write, which is empty there
    function = getattr(load("answer", helpers), calls["entry_point"])
    for line, seconds in zip(inputs, calls["seconds"], strict=True):
        arguments = json.loads(line)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)  # ends the process, also within a long call of C code
        start = time.perf_counter()
        value = function(*arguments)
        elapsed = time.perf_counter() - start
        report = f"{elapsed:.6f} {report_of(value)}\n".encode()
        signal.setitimer(signal.ITIMER_REAL, 0)
        while report:
            report = report[os.write(reports, report) :]


if __name__ == "__main__":
    main()
