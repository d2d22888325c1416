"""The plan of one program: memory by class, a verdict, and the least time that the hardware allows."""

import dataclasses
import re
from typing import Any

from phi4r.planning.topologies import CHIPS, GIB, Topology

LABEL = "compiled, not run"
_NEED = re.compile(r"[Uu]sed ([\d.]+)([KMGT])\w* of ([\d.]+)([KMGT])\w* hbm")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Least seconds of a call by what bounds it, as if all overlapped perfectly; None where it is not known.

    Attributes:
      compute_s: executed FLOPs at the peak of all devices.
      memory_s: bytes of the compiled text at the bandwidth of the device's memory.
      interconnect_s: bytes between devices at the bandwidth of the links, or of the network where that takes longer.
    """

    compute_s: float | None
    memory_s: float | None
    interconnect_s: float | None

    @property
    def call_s(self) -> float | None:
        """The longest of them."""
        return max((seconds for seconds in dataclasses.astuple(self) if seconds is not None), default=None)

    @property
    def bound(self) -> str:
        """What bounds the program: "compute", "memory" or "interconnect"."""
        times = {field.name: getattr(self, field.name) or 0.0 for field in dataclasses.fields(self)}
        return max(times, key=times.get).removesuffix("_s")


@dataclasses.dataclass(frozen=True)
class ProgramPlan:
    """What is known of a program on a topology; everything compiled, nothing run.

    Attributes:
      name: of the program.
      title: what it does.
      memory: bytes a device by class, what other programs keep there included.
      total: their sum, or what the compiler says it needs; None if it says nothing.
      limit: bytes that a device has.
      host: bytes in the memory of the host, for a device.
      refusal: why it did not compile, or None.
      buffers: its largest temporaries.
      num_tokens: of a call over all devices.
      model_flops: of a call over all devices.
      executed_flops: of a call over all devices, recomputation included.
      traffic: bytes of a call on one device: "memory", "links", "network", "by_kind"; None if there is no text.
      roofline: the least time of a call.
      calls: in a training step.
      steps: decode steps of a call; 0 for another program.
      mfu: model FLOPs over those that the devices could make in the roofline's time.
      compile_s: seconds of the compiler.
      cached: whether they were spent before.
      notes: what the figures leave out.
    """

    name: str
    title: str
    memory: dict[str, int]
    total: int | None
    limit: int
    host: int
    refusal: str | None
    buffers: list[dict[str, Any]]
    num_tokens: int
    model_flops: float
    executed_flops: float
    traffic: dict[str, Any] | None
    roofline: Roofline
    calls: int
    steps: int
    mfu: float | None
    compile_s: float
    cached: bool
    notes: list[str]

    @property
    def fits(self) -> bool:
        """Whether it compiles and fits beside what lies in memory anyway."""
        return self.refusal is None and self.total is not None and self.total <= self.limit

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens over the roofline's time: no run can be faster."""
        call_s = self.roofline.call_s
        return self.num_tokens / call_s if call_s and self.num_tokens else None

    @property
    def verdict(self) -> str:
        """One or a few words."""
        if self.fits:
            return "fits"
        out_of_memory = self.refusal is None or is_out_of_memory(self.refusal)
        return "does not fit" if out_of_memory else "does not compile"


def make_plan(result: dict[str, Any], topology: Topology, hbm_gib: float | None) -> ProgramPlan:
    """Reads a worker's result.

    Args:
      result: from `phi4r.planning.compile.compile_program`.
      topology: what it was compiled for.
      hbm_gib: memory of a device, instead of the chip's.
    """
    chip = CHIPS[topology.chip]
    memory, total = _memory(result)
    iterations = result["iterations"]
    traffic = _add_traffic(result["traffic"], result["traffic_iteration"], iterations)
    counted = result["flops"] + iterations * result["flops_iteration"]
    executed = max(counted, result["model_flops"])  # kernels of our own are not counted in full
    roofline = _roofline(executed / topology.num_devices, traffic, topology)
    call_s = roofline.call_s
    return ProgramPlan(
        name=result["program"],
        title=result["title"],
        memory=memory,
        total=total,
        limit=int((hbm_gib or chip.hbm_gib) * GIB),
        host=result["sizes"].get("host", 0) + result["resident_host"],
        refusal=result["refusal"],
        buffers=result["buffers"],
        num_tokens=result["num_tokens"],
        model_flops=result["model_flops"],
        executed_flops=executed,
        traffic=traffic,
        roofline=roofline,
        calls=result["calls"],
        steps=result["steps"],
        mfu=result["model_flops"] / (call_s * topology.num_devices * chip.flops) if call_s and chip.flops else None,
        compile_s=result["compile_s"],
        cached=result["cached"],
        notes=result["notes"],
    )


def is_out_of_memory(refusal: str) -> bool:
    """Whether the compiler refused a program for want of the device's memory, and not of a kernel's scratch memory."""
    return bool(_NEED.search(refusal)) or ("RESOURCE_EXHAUSTED" in refusal and "vmem" not in refusal.lower())


def _memory(result: dict[str, Any]) -> tuple[dict[str, int], int | None]:
    """Returns bytes by class, and their sum."""
    arguments, sizes = result["arguments"], result["sizes"]
    memory = {**arguments, **result["temporaries"]}
    resident = {f"{kind} (kept)": size for kind, size in result["resident"].items()}
    if sizes:
        # A program may leave an argument unread, and the compiler pads others to its tiles.
        padding = sizes["argument"] - sum(arguments.values())
        memory |= {"padding": max(0, padding), "results": sizes["output"], "code": sizes["code"]}
        memory = {**memory, **resident}
        return memory, sum(memory.values())
    memory = {**memory, **resident}
    if need := _NEED.search(result["refusal"] or ""):
        return memory, int(float(need[1]) * _UNITS[need[2]]) + sum(resident.values())
    return memory, None


def _add_traffic(once: dict[str, Any] | None, iteration: dict[str, Any] | None, passes: int) -> dict[str, Any] | None:
    """Returns the traffic of a call with `passes` through its loop on data."""
    if once is None or iteration is None:
        return None
    kinds = {**once["by_kind"], **iteration["by_kind"]}
    return {
        **{key: once[key] + passes * iteration[key] for key in ("memory", "links", "network")},
        "by_kind": {kind: once["by_kind"].get(kind, 0) + passes * iteration["by_kind"].get(kind, 0) for kind in kinds},
    }


def _roofline(flops: float, traffic: dict[str, Any] | None, topology: Topology) -> Roofline:
    """Returns the least times of a call; `flops` are those of one device."""
    chip = CHIPS[topology.chip]
    if chip.flops is None:
        return Roofline(None, None, None)
    if traffic is None:
        return Roofline(flops / chip.flops, None, None)
    interconnect = max(traffic["links"] / chip.link_bandwidth, traffic["network"] / chip.network_bandwidth)
    return Roofline(flops / chip.flops, traffic["memory"] / chip.hbm_bandwidth, interconnect)
