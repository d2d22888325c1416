"""What a compiled program moves: bytes in and out of device memory, and bytes between devices."""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from phi4r.model.kv_cache import PAGE_KERNEL
from phi4r.planning.hlo import Array, Instruction, Module

# Opcode -> (bytes sent and received by a device on a ring of n devices) / (bytes of its operand); an all-gather's
# operand is one part of the result.
RING = {
    "all-gather": lambda n: n - 1,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "ragged-all-to-all": lambda n: (n - 1) / n,
    "collective-broadcast": lambda n: 1.0,
    "collective-permute": lambda n: 1.0,
}
# What only names, groups or forwards buffers.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "opt-barrier", "async-start", "async-update", "async-done", "copy-done",
    "add-dependency",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes of one device in one call.

    Attributes:
      memory: read and written by the instructions of the compiled text, each result and operand once.
      links: sent over the links inside a host or slice.
      network: sent to other hosts; 0 where there is one host or a TPU slice.
      by_kind: of `links`, by kind of collective.
    """

    memory: float = 0.0
    links: float = 0.0
    network: float = 0.0
    by_kind: dict[str, float] = dataclasses.field(default_factory=dict)

    def __add__(self, other: "Traffic") -> "Traffic":
        kinds = Counter(self.by_kind) + Counter(other.by_kind)
        return Traffic(self.memory + other.memory, self.links + other.links, self.network + other.network, dict(kinds))

    def repeated(self, times: float) -> "Traffic":
        """Returns the traffic of `times` passes."""
        kinds = {kind: value * times for kind, value in self.by_kind.items()}
        return Traffic(self.memory * times, self.links * times, self.network * times, kinds)


def measure_traffic(
    module: Module, hosts: Sequence[int], *, visits: float = 1.0, page_share: float = 1.0
) -> tuple[Traffic, Traffic]:
    """Returns the traffic outside loops that end on data, and that of one pass of such loops.

    Args:
      module: the compiled text.
      hosts: of every device, in the order of the mesh.
      visits: passes of the inner loop of attention (`Module.counts`).
      page_share: of the pool of pages, that a kernel for pages reads.
    """
    once, iteration = Traffic(), Traffic()
    instructions = (instruction for body in module.computations.values() for instruction in body.values())
    fused = {name for instruction in instructions if instruction.opcode == "fusion" for name in instruction.called}
    for name, count in module.counts(visits).items():
        body = module.computations.get(name, {})
        total = sum((_collective(i, body, hosts) for i in body.values()), Traffic())
        if name not in fused:
            memory = sum(_memory_bytes(i, body, module, page_share) for i in body.values())
            total += Traffic(memory=memory)
        once += total.repeated(count.once)
        iteration += total.repeated(count.iteration)
    return once, iteration


# Between devices


def _collective(instruction: Instruction, body: dict[str, Instruction], hosts: Sequence[int]) -> Traffic:
    """Returns the traffic of one collective, nothing for another instruction."""
    kind = instruction.opcode.removesuffix("-start")
    if kind not in RING:
        return Traffic()
    operand = sum(array.num_bytes for name in instruction.operands for array in body[name].arrays)
    group = _group(instruction, len(hosts))
    if len(group) < 2:
        return Traffic()
    links = operand * RING[kind](len(group))
    num_hosts = len({hosts[device] for device in group})
    network = 0.0
    if num_hosts > 1:
        # The devices of a host share what goes in and out of it, each over its own adapter.
        part = operand * len(group) / num_hosts if kind == "all-gather" else operand
        network = part * RING[kind](num_hosts) * num_hosts / len(group)
    return Traffic(links=links, network=network, by_kind={kind: links})


def _group(instruction: Instruction, num_devices: int) -> list[int]:
    """Returns the devices of the first group of a collective; for a permutation the first pair."""
    text = instruction.attributes
    if pairs := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", text):
        return sorted({int(pairs[1]), int(pairs[2])})
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return [int(device) for device in listed[1].split(",")]
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text):
        shape, dims = (tuple(map(int, iota[i].split(","))) for i in (1, 2))
        order = np.arange(np.prod(dims)).reshape(dims)
        if iota[3]:
            order = order.transpose(tuple(map(int, iota[3].split(","))))
        return order.reshape(-1, shape[-1])[0].tolist()
    return list(range(num_devices))


# In and out of memory


def _memory_bytes(instruction: Instruction, body: dict[str, Instruction], module: Module, page_share: float) -> float:
    """Returns the bytes that one instruction outside fusions reads and writes."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done"):
        return 0.0
    if opcode == "fusion":
        inner = module.computations.get(next(iter(instruction.called)), {})
        reads = _parameter_reads(inner, module)
        read = sum(
            min(_bytes(body[name].arrays), reads.get(place, (0.0, False))[0])
            for place, name in enumerate(instruction.operands)
            if name in body
        )
        return read + min(_bytes(instruction.arrays), _written(inner))
    if opcode in ("dynamic-update-slice", "scatter"):
        return 2.0 * _bytes(body[instruction.operands[1 if opcode != "scatter" else -1]].arrays)
    if opcode in ("dynamic-slice", "gather", "slice"):  # of the operand as much is read as there is of the result
        source = body[instruction.operands[0]].arrays
        return min(_bytes(source), _all_bytes(instruction)) + _bytes(instruction.arrays)
    operands = sum(_bytes(body[name].arrays) for name in instruction.operands if name in body)
    if opcode == "custom-call" and f"/{PAGE_KERNEL}/" in instruction.attributes:  # nearly all it is given is the pool
        return operands * page_share + _bytes(instruction.arrays)
    if opcode == "copy-start":  # its result is (copy, operand, context)
        return operands + _bytes(instruction.arrays[:1])
    if opcode.endswith("-start"):
        return 2.0 * operands
    return operands + _bytes(instruction.arrays)


def _bytes(arrays: Sequence[Array]) -> float:
    """Returns the bytes that lie in the device's main memory, and not in a scratch memory of the chip."""
    return float(sum(array.num_bytes for array in arrays if array.space == 0))


def _parameter_reads(inner: dict[str, Instruction], module: Module) -> dict[int, tuple[float, bool]]:
    """Returns for every parameter of a fusion (bytes of it that are read, whether it flows into the result).

    A slice of it is read as the slice, and what is written in place or only renamed is not read; another use reads all.
    """
    users: dict[str, list[Instruction]] = defaultdict(list)
    for instruction in inner.values():
        for operand in instruction.operands:
            users[operand].append(instruction)

    def read(name: str) -> tuple[float, bool]:
        uses = [use(user, name) for user in users[name]]
        return sum(size for size, _ in uses), inner[name].root or any(flows for _, flows in uses)

    def use(user: Instruction, name: str) -> tuple[float, bool]:
        first = user.operands[0] == name
        if user.opcode in ("dynamic-slice", "gather", "slice") and first:
            return _all_bytes(user), False
        if user.opcode in ("bitcast", "tuple") or (user.opcode in ("dynamic-update-slice", "scatter") and first):
            return read(user.name)
        if user.opcode != "fusion":
            return float("inf"), False
        reads = _parameter_reads(module.computations.get(next(iter(user.called)), {}), module)
        inside = [reads.get(place, (0.0, False)) for place, operand in enumerate(user.operands) if operand == name]
        size, flows = sum(part for part, _ in inside), any(part for _, part in inside)
        after = read(user.name) if flows else (0.0, False)
        return size + after[0], after[1]

    return {int(i.index): read(i.name) for i in inner.values() if i.opcode == "parameter"}


def _all_bytes(instruction: Instruction) -> float:
    return float(sum(array.num_bytes for array in instruction.arrays))


def _written(inner: dict[str, Instruction]) -> float:
    """Returns how many bytes a fusion writes: only the slice, where its root updates an array in place."""
    root = next((i for i in inner.values() if i.root), None)
    if root is None:
        return float("inf")

    def written(instruction: Instruction) -> float:
        if instruction.opcode in ("bitcast", "tuple"):
            return sum(written(inner[name]) for name in instruction.operands if name in inner)
        if instruction.opcode in ("dynamic-update-slice", "scatter"):
            return _all_bytes(inner[instruction.operands[1 if instruction.opcode != "scatter" else -1]])
        return _all_bytes(instruction)

    return written(root)
