"""The tests of a programming problem, and the reference that carries them to a verifier."""

import dataclasses
import json
from typing import Any

from phi4r.errors import UserError
from phi4r.verifiers.code.compressed_text import compress_text, decompress_text

TEST_SECONDS = 6.0
MEMORY_MB = 1024
_MAX_PLAIN = 4096  # characters of a reference that is left uncompressed
_MAX_SECONDS = 600.0


@dataclasses.dataclass(frozen=True)
class ProgramTests:
    """What a program is tried on; a right one passes all tests.

    Attributes:
      inputs: what it reads from standard input; or of a function one argument a line, in JSON.
      outputs: what it must write to standard output; or the value that the function must return, in JSON.
      func_name: of the function, or of the method of a class `Solution`; None for a whole program.
      seconds: a test may take.
      memory_mb: the program may use, in MiB.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    func_name: str | None = None
    seconds: float = TEST_SECONDS
    memory_mb: int = MEMORY_MB

    def __post_init__(self):
        if not self.inputs or len(self.inputs) != len(self.outputs):
            raise UserError(f"tests need as many outputs as inputs, and one: {len(self.inputs)}, {len(self.outputs)}.")
        if self.func_name is not None and not self.func_name.isidentifier():
            raise UserError(f"{self.func_name[:40]!r} is no name of a function.")
        if not 0 < self.seconds <= _MAX_SECONDS or self.memory_mb < 1:
            raise UserError(f"tests need 0 < seconds <= {_MAX_SECONDS:g} and a memory of at least 1 MiB.")
        if self.func_name is not None:
            for index in range(len(self.inputs)):  # refuses what is not JSON
                self.arguments(index)
                self.result(index)

    def arguments(self, index: int) -> list[Any]:
        """Returns the arguments of the function in test `index`.

        Raises:
          UserError: if a line of the input is not JSON.
        """
        return [_json(line, "input", index) for line in self.inputs[index].split("\n") if line.strip()]

    def result(self, index: int) -> Any:
        """Returns what the function must return in test `index`.

        Raises:
          UserError: if the output is not JSON.
        """
        return _json(self.outputs[index], "output", index)

    def to_reference(self) -> str:
        """Returns the tests as JSON, or as base64 of zlib of it where it is long."""
        tests = [{"input": i, "output": o} for i, o in zip(self.inputs, self.outputs, strict=True)]
        rest = {"func_name": self.func_name, "seconds": self.seconds, "memory_mb": self.memory_mb}
        text = json.dumps({**rest, "tests": tests})
        return text if len(text) <= _MAX_PLAIN else compress_text(text)

    @classmethod
    def from_reference(cls, reference: str) -> "ProgramTests":
        """Reads what `to_reference` wrote; all but "tests" may be missing.

        Raises:
          UserError: for anything else.
        """
        values = parse_json(reference if reference.lstrip().startswith("{") else decompress_text(reference))
        if not isinstance(values, dict):
            raise UserError("the reference of a program must be an object with 'tests'.")
        inputs, outputs = read_tests(values.get("tests"))
        func_name, seconds = values.get("func_name"), values.get("seconds", TEST_SECONDS)
        memory_mb = values.get("memory_mb", MEMORY_MB)
        if not isinstance(func_name, str | None) or not isinstance(seconds, int | float):
            raise UserError("the reference of a program needs text for func_name and a number of seconds.")
        if not isinstance(memory_mb, int):
            raise UserError("the reference of a program needs a whole number for memory_mb.")
        return cls(inputs, outputs, func_name, float(seconds), memory_mb)


def read_tests(tests: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns inputs and outputs of a list of {"input", "output"}.

    Raises:
      UserError: if it is none.
    """
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise UserError("tests must be a list of objects with 'input' and 'output'.")
    for number, test in enumerate(tests):
        if not isinstance(test.get("input"), str) or not isinstance(test.get("output"), str):
            raise UserError(f"test {number} needs an 'input' and an 'output', both text.")
    return tuple(test["input"] for test in tests), tuple(test["output"] for test in tests)


def parse_json(text: str) -> Any:
    """Parses JSON.

    Raises:
      UserError: if it is none, or nested too deep.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{text[:40]!r} is not JSON.") from error


def _json(text: str, what: str, index: int) -> Any:
    try:
        return parse_json(text)
    except UserError as error:
        raise UserError(f"the {what} of test {index} must be JSON: {error}") from error
