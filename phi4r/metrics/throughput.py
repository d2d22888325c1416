"""Speed and memory of a run: tokens per second, causal MFU, compilations, peak bytes."""

import time
from collections.abc import Sequence

import jax

# Dense bfloat16 FLOP/s of one device, from the vendors' data sheets. JAX's device kinds are matched by the first
# entry that they contain, so longer names stand before the shorter ones inside them.
PEAK_FLOPS = (
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),  # v5p
    ("TPU v6", 918e12),
    ("A100", 312e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("B200", 2250e12),
)
COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"


def peak_flops(device_kind: str) -> float | None:
    """Returns the peak bfloat16 FLOP/s of a device kind, or None where it is not known (as for CPUs)."""
    return next((flops for name, flops in PEAK_FLOPS if name in device_kind), None)


class Throughput:
    """Counts tokens and model FLOPs between two readings of the clock.

    MFU (model FLOPs utilisation) = model FLOPs / (seconds * devices * peak FLOP/s). The FLOPs are those of
    `ModelConfig.train_flops`: 6 for each matrix parameter and token, plus attention over the pairs that the causal
    mask admits, not over the full square; recomputation is not counted.
    """

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        """Starts the clock; `devices` are all that take part."""
        peak = peak_flops(devices[0].device_kind)
        self._peak = None if peak is None else peak * len(devices)
        self.restart()

    def restart(self) -> None:
        """Forgets what was counted and sets the clock to zero: after evaluation or saving."""
        self._started, self._steps, self._tokens, self._flops = time.monotonic(), 0, 0, 0.0

    def add(self, *, num_tokens: int, flops: float) -> None:
        """Counts one step of `num_tokens` and `flops` model FLOPs over all devices."""
        self._steps += 1
        self._tokens += num_tokens
        self._flops += flops

    def read(self) -> dict[str, float]:
        """Returns `step_s`, `tokens_per_s` and `mfu` since the last reading, and restarts.

        Call it when the results of the counted steps have arrived, since dispatch is asynchronous. `mfu` is left out
        on devices of unknown peak.
        """
        seconds = time.monotonic() - self._started
        rates = {}
        if self._steps and seconds > 0:
            rates = {"step_s": seconds / self._steps, "tokens_per_s": self._tokens / seconds}
            if self._peak is not None:
                rates["mfu"] = self._flops / (seconds * self._peak)
        self.restart()
        return rates


class CompileCounter:
    """Counts the XLA programs compiled, or loaded from the compilation cache, while it is open.

    A training step compiles once; a count that grows with the steps means that shapes change.
    """

    def __init__(self) -> None:
        self.count = 0

    def _listen(self, event: str, duration_secs: float, **_) -> None:
        if event == COMPILE_EVENT:
            self.count += 1

    def __enter__(self) -> "CompileCounter":
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *exc) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)


def peak_memory_gib(devices: Sequence[jax.Device]) -> float | None:
    """Returns the largest peak of memory over `devices` in GiB, or None where devices do not report it (CPU)."""
    stats = [device.memory_stats() for device in devices]
    peaks = [s["peak_bytes_in_use"] for s in stats if s and "peak_bytes_in_use" in s]
    return max(peaks) / 2**30 if peaks else None
