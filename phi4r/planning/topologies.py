"""The machines that a plan can be made for: their chips, their names, and what the vendors say they can do.

v5e:8x8  v5p:4x4x4  v6e:4x4      TPU slices, by the sizes of their torus
h100:8   b200:4x8                GPUs of one host; hosts x GPUs
cpu:8                            virtual devices of this machine, to try the command
"""

import dataclasses
import difflib
import math
import re
from typing import Literal

from phi4r.errors import UserError

GIB = 2**30
GPUS_PER_HOST = (1, 2, 4, 8)
MAX_GPU_HOSTS = 128
TPU_SLICES_2D = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
TPU_SLICES_3D = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16")
MAX_CPU_DEVICES = 64


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device. Rates are peaks of the data sheets: what a roofline divides by, never what a program reaches.

    Attributes:
      name: as in a topology's name.
      platform: of JAX.
      hbm_gib: memory that the compiler may use, GiB.
      flops: dense bfloat16 FLOP/s; None for a CPU, which gets no roofline.
      hbm_bandwidth: bytes/s.
      link_bandwidth: bytes/s that a device can send to the others of its host (GPU) or slice (TPU), over all links.
      network_bandwidth: bytes/s that a device can send to other hosts; the links again for a TPU slice.
    """

    name: str
    platform: Literal["tpu", "cuda", "cpu"]
    hbm_gib: float
    flops: float | None = None
    hbm_bandwidth: float | None = None
    link_bandwidth: float | None = None
    network_bandwidth: float | None = None


# JAX on a GPU takes XLA_CLIENT_MEM_FRACTION of the memory; the scripts in launch/ set it to this.
GPU_MEMORY_SHARE = 0.92

# TPU: cloud.google.com/tpu/docs/{v5e,v5p,v6e}; "bidirectional inter-chip bandwidth" of 400, 1200 and 800 GB/s a chip,
# half of it each way; memory as the compiler states its limit when it refuses a program.
# GPU: data sheets of the SXM boards: bfloat16 without sparsity, memory as XLA's own descriptions of the devices have
# it, NVLink 600 (A100), 900 (H100, H200) and 1800 GB/s (B200), half of it each way; network of the vendor's DGX
# servers, one adapter a GPU: 200 Gbit/s (A100), 400 Gbit/s (the others).
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", "tpu", 15.75, 197e12, 819e9, 200e9, 200e9),
        Chip("v5p", "tpu", 95.0, 459e12, 2765e9, 600e9, 600e9),
        Chip("v6e", "tpu", 31.25, 918e12, 1640e9, 400e9, 400e9),
        Chip("a100", "cuda", GPU_MEMORY_SHARE * 85_100_068_864 / GIB, 312e12, 2039e9, 300e9, 25e9),
        Chip("h100", "cuda", GPU_MEMORY_SHARE * 84_942_979_072 / GIB, 989e12, 3352e9, 450e9, 50e9),
        Chip("h200", "cuda", GPU_MEMORY_SHARE * 151_397_597_184 / GIB, 989e12, 4800e9, 450e9, 50e9),
        Chip("b200", "cuda", GPU_MEMORY_SHARE * 191_514_411_008 / GIB, 2250e12, 7672e9, 900e9, 50e9),
        Chip("cpu", "cpu", 16.0),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices of one kind and how they are joined.

    Attributes:
      chip: name of the chip.
      shape: sizes of the torus (TPU), (hosts, GPUs of each) or (devices,).
    """

    chip: str
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name that `parse_topology` takes; a single host of GPUs has one number."""
        shape = self.shape[1:] if CHIPS[self.chip].platform == "cuda" and self.shape[0] == 1 else self.shape
        return f"{self.chip}:{'x'.join(map(str, shape))}"

    @property
    def num_devices(self) -> int:
        """How many devices there are."""
        return math.prod(self.shape)


def parse_topology(text: str) -> Topology:
    """Reads a name as `v5p:4x4x4` or `h100:4x8`.

    Raises:
      UserError: for a name that is not known; the message lists those that are.
    """
    match = re.fullmatch(r"([a-z0-9]+):(\d+(?:x\d+)*)", text.strip().lower())
    chip = CHIPS.get(match[1]) if match else None
    if chip is None:
        near = difflib.get_close_matches(text.split(":")[0].lower(), CHIPS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"{text!r} is not a known topology.{hint} Known: {'; '.join(map(known_names, CHIPS))}.")
    shape = tuple(map(int, match[2].split("x")))
    if chip.platform == "cuda" and len(shape) == 1:
        shape = (1, *shape)
    if not _exists(chip, shape):
        raise UserError(f"{text!r} is not a known size of {chip.name}. Known: {known_names(chip.name)}.")
    return Topology(chip.name, shape)


def known_names(chip: str) -> str:
    """Returns the names of the topologies of a chip, for messages."""
    platform = CHIPS[chip].platform
    if platform == "cpu":
        return f"cpu:1 ... cpu:{MAX_CPU_DEVICES}"
    if platform == "cuda":
        sizes = ", ".join(map(str, GPUS_PER_HOST))
        return f"{chip}:N (N = {sizes}) and {chip}:HxN (H hosts, up to {MAX_GPU_HOSTS}, of N GPUs)"
    return ", ".join(f"{chip}:{shape}" for shape in _slices(chip))


def _slices(chip: str) -> tuple[str, ...]:
    """Returns the slice shapes of a TPU generation."""
    return TPU_SLICES_3D if chip == "v5p" else TPU_SLICES_2D


def _exists(chip: Chip, shape: tuple[int, ...]) -> bool:
    """Whether devices of this kind come in this shape."""
    if chip.platform == "tpu":
        return "x".join(map(str, shape)) in _slices(chip.name)
    if chip.platform == "cuda":
        return len(shape) == 2 and 1 <= shape[0] <= MAX_GPU_HOSTS and shape[1] in GPUS_PER_HOST
    return len(shape) == 1 and 1 <= shape[0] <= MAX_CPU_DEVICES
