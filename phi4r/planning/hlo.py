"""Reads the text of a compiled program: its computations, and how often each of them runs."""

import dataclasses
import functools
import re
from collections import defaultdict

DTYPE_BYTES = {
    "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2,
    "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<= ]*)\](\{[^}]*\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(r"\b(calls|body|condition|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIP_COUNT = re.compile(r'known_trip_count"?:\{"?n"?:"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape; `space` is 0 for the device's main memory."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def num_bytes(self) -> int:
        """Bytes without padding."""
        size = DTYPE_BYTES.get(self.dtype, 1 if self.dtype.startswith("f8") else 0)
        for dim in self.dims:
            size *= dim
        return int(size)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: `%name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    index: str  # what stands in the parentheses: the number, of a parameter
    root: bool

    @functools.cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays of the result."""
        return parse_shape(self.shape)

    @functools.cached_property
    def called(self) -> dict[str, str]:
        """Computations that it calls: name -> role."""
        called = {name: role for role, name in _CALLED.findall(self.attributes)}
        branches = _BRANCHES.search(self.attributes)
        names = re.findall(r"[\w.\-]+", branches[1]) if branches else []
        return {**called, **dict.fromkeys(names, "branch")}


@dataclasses.dataclass(frozen=True)
class Count:
    """How often a computation runs: `once` in the program, and `iteration` more in each pass of a loop on data."""

    once: float
    iteration: float
    in_loop: bool = False  # a loop on data in there is that of attention, over blocks of keys or pages


class Module:
    """A compiled program.

    Attributes:
      computations: instructions by name, for each computation.
      entry: name of the first one.
    """

    def __init__(self, text: str) -> None:
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if line.endswith("{") and (header := _COMPUTATION.match(line)) and " = " not in line:
                current = self.computations.setdefault(header[2], {})
                self.entry = header[2] if header[1] else self.entry
            elif match := _INSTRUCTION.match(line):
                instruction = _parse_instruction(line[match.end() :], match[2], root=bool(match[1]))
                current[instruction.name] = instruction

    def counts(self, visits: float = 1.0) -> dict[str, Count]:
        """Returns how often each computation runs that is reached through loops, calls and branches, fusions included.

        Args:
          visits: passes of a loop on data that stands in another loop (`phi4r.planning.flops`).
        """
        counts: dict[str, Count] = defaultdict(lambda: Count(0, 0))

        def visit(name: str, count: Count) -> None:
            counts[name] = Count(counts[name].once + count.once, counts[name].iteration + count.iteration)
            for instruction in self.computations.get(name, {}).values():
                inside = count
                if instruction.opcode == "while":
                    inside = _inside(count, self.trip_count(instruction), visits)
                for called in self._run_by(instruction):
                    visit(called, inside)

        visit(self.entry, Count(1, 0))
        return dict(counts)

    def _run_by(self, instruction: Instruction) -> list[str]:
        """Returns the computations that an instruction runs; of the branches of a conditional the shortest.

        What a sampler can do at each token and RL leaves off (greedy choice, top-k, top-p) stands in such branches.
        """
        called = instruction.called
        if instruction.opcode == "conditional":
            return sorted(called, key=lambda name: len(self.computations.get(name, ())))[:1]
        return [name for name, role in called.items() if role != "to_apply" or instruction.opcode == "call"]

    def trip_count(self, loop: Instruction) -> int | None:
        """Returns how often the body of a `while` runs; None if that depends on data.

        The compiler for GPUs writes the number down. That for TPUs does not: there it is the constant with which the
        condition compares a counter that goes from 0 in steps of 1.
        """
        if match := _TRIP_COUNT.search(loop.attributes):
            return int(match[1])
        condition = self.computations[next(name for name, role in loop.called.items() if role == "condition")]
        root = next(instruction for instruction in condition.values() if instruction.root)
        if root.opcode != "compare" or "direction=LT" not in root.attributes:
            return None
        limits = [condition[name] for name in root.operands if condition[name].opcode == "constant"]
        return int(limits[0].index) if limits else None


def _inside(count: Count, trips: int | None, visits: float) -> Count:
    """Returns how often the body of a loop runs that runs itself `count` times."""
    if trips is None and not count.in_loop:
        return Count(0, count.once + count.iteration, in_loop=True)
    trips = visits if trips is None else trips
    return Count(count.once * trips, count.iteration * trips, in_loop=True)


def parse_shape(text: str) -> tuple[Array, ...]:
    """Returns the arrays of a shape or a tuple of shapes, as `(f32[8,128]{1,0:T(8,128)S(1)}, s32[])`."""

    def array(dtype: str, dims: str, layout: str) -> Array:
        space = re.search(r"S\((\d+)\)", layout or "")
        sizes = tuple(int(dim.strip().removeprefix("<=")) for dim in dims.split(",") if dim.strip())
        return Array(dtype, sizes, int(space[1]) if space else 0)

    return tuple(array(*match) for match in _ARRAY.findall(text))


def _parse_instruction(text: str, name: str, *, root: bool) -> Instruction:
    """Parses what follows `%name = `."""
    shape, rest = _until_closed(text) if text.startswith("(") else text.split(" ", 1)
    opcode, _, rest = rest.strip().partition("(")
    inner, attributes = _until_closed("(" + rest)
    operands = tuple(re.findall(r"%([\w.\-]+)", inner))
    return Instruction(name, shape, opcode, operands, attributes, inner[1:-1], root)


def _until_closed(text: str) -> tuple[str, str]:
    """Splits a text after the parenthesis that closes its first one."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    return text, ""
