"""Where the memory of a compiled program goes: its temporaries by class, and its largest buffers."""

import dataclasses
import re
from collections.abc import Iterable

from phi4r.planning.hlo import Array, parse_shape

_ALLOCATION = re.compile(r"^allocation \d+: size (\d+)(.*):$")
_VALUE = re.compile(r"^ value: <\d+ [^ ]+.* @\d+> \(size=(\d+),offset=(\d+)\): (.+)$")


@dataclasses.dataclass(frozen=True)
class Buffer:
    """A piece of the memory for temporaries; values that are not alive at the same time share one."""

    offset: int
    size: int
    shape: str


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Sizes on one device by which temporaries are told apart.

    Attributes:
      num_layers: L; what the scan over layers keeps has it as its first size.
      row_tokens: tokens of a row on one device: in the shapes of activations.
      trains: whether the program makes gradients.
    """

    num_layers: int
    row_tokens: int
    trains: bool


def read_buffers(text: str) -> list[Buffer]:
    """Returns the temporaries in the device's main memory, from the compiler's report of its buffer assignment."""
    buffers: dict[tuple[int, int], Buffer] = {}
    wanted = False
    for line in text.splitlines():
        if allocation := _ALLOCATION.match(line):
            wanted = _is_temporary(allocation[2])
        elif wanted and (value := _VALUE.match(line)):
            size, offset = int(value[1]), int(value[2])
            if not value[3].startswith("("):  # a tuple is a list of pointers
                buffers.setdefault((offset, size), Buffer(offset, size, short_shape(value[3])))
    return sorted(buffers.values(), key=lambda buffer: (-buffer.size, buffer.offset))


def temporary_bytes(text: str) -> int:
    """Returns the bytes of all temporaries in the device's main memory; 0 without a report."""
    allocations = filter(None, map(_ALLOCATION.match, text.splitlines()))
    return sum(int(allocation[1]) for allocation in allocations if _is_temporary(allocation[2]))


def _is_temporary(kind: str) -> bool:
    """Whether an allocation holds temporaries, and not in another memory (a color) than the main one."""
    return "preallocated-temp" in kind and "color" not in kind


def short_shape(text: str) -> str:
    """Returns a shape without its layout."""
    return re.sub(r"\{[^{}]*\}", "", text).strip()


def largest(buffers: Iterable[Buffer], count: int) -> list[dict[str, int | str]]:
    """Returns the shapes that take the most: how many buffers of one shape there are, and the bytes of each.

    Args:
      buffers: from `read_buffers`, the largest first; those inside a larger one are left out.
      count: of shapes.
    """
    chosen: list[Buffer] = []
    shapes: dict[str, dict[str, int | str]] = {}
    for buffer in buffers:
        if len(shapes) == count and buffer.shape not in shapes:
            break
        if all(buffer.offset >= b.offset + b.size or b.offset >= buffer.offset + buffer.size for b in chosen):
            chosen.append(buffer)
            shape = shapes.setdefault(buffer.shape, {"shape": buffer.shape, "size": buffer.size, "number": 0})
            shape["number"] += 1
    return sorted(shapes.values(), key=lambda shape: -shape["size"] * shape["number"])


def temporaries_by_class(buffers: Iterable[Buffer], total: int, shapes: Shapes) -> dict[str, int]:
    """Divides the bytes of temporaries into the classes "activations", "gradients" and "workspace".

    "activations" are those that the scan over layers keeps for the backward pass, "gradients" what else is stacked by
    layers there (sums of gradients, their parts and copies in another order). Memory that several classes use one after
    the other counts for the first of them; "workspace" is all the rest.

    Args:
      buffers: from `read_buffers`.
      total: bytes of all temporaries.
      shapes: what to know them by.
    """
    spans: dict[str, list[tuple[int, int]]] = {"activations": [], "gradients": []}
    for buffer in buffers:
        kind = _class_of(parse_shape(buffer.shape), shapes)
        if kind is not None:
            spans[kind].append((buffer.offset, buffer.offset + buffer.size))
    sizes, covered = {}, []
    for kind, found in spans.items():
        before = _covered_bytes(covered)
        covered += found
        sizes[kind] = _covered_bytes(covered) - before
    sizes["workspace"] = max(0, total - sum(sizes.values()))
    return sizes


def _class_of(arrays: tuple[Array, ...], shapes: Shapes) -> str | None:
    """Returns the class of a temporary, None for workspace."""
    dims = arrays[0].dims if arrays else ()
    if shapes.trains and shapes.num_layers > 1 and shapes.num_layers in dims and len(dims) >= 3:
        return "activations" if shapes.row_tokens in dims else "gradients"
    return None


def _covered_bytes(spans: list[tuple[int, int]]) -> int:
    """Returns the length of a union of intervals."""
    total, end = 0, 0
    for first, last in sorted(spans):
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total
