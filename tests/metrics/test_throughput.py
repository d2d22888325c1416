import jax
import jax.numpy as jnp
import pytest

from phi4r.metrics import throughput as throughput_module
from phi4r.metrics.throughput import CompileCounter, Throughput, peak_flops, peak_memory_gib


class Device:
    def __init__(self, kind, stats=None):
        self.device_kind, self.stats = kind, stats

    def memory_stats(self):
        return self.stats


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(throughput_module, "time", clock)
    return clock


@pytest.mark.parametrize(
    ("kind", "flops"),
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v5", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA B200", 2250e12),
        ("cpu", None),
    ],
)
def test_peak_flops_by_device_kind(kind, flops):
    assert peak_flops(kind) == flops


def test_mfu_of_the_papers_step_by_hand(clock):
    # 32 rows of 32,768 tokens are 1.312e17 model FLOPs; 32 H100 in 10 s could do 32 * 989e12 * 10 = 3.165e17.
    meter = Throughput([Device("NVIDIA H100 80GB HBM3")] * 32)
    meter.add(num_tokens=32 * 32768, flops=1.312e17)
    clock.now += 10.0
    rates = meter.read()
    assert rates["mfu"] == pytest.approx(0.41456, abs=1e-4)
    assert rates["tokens_per_s"] == pytest.approx(104857.6)
    assert rates["step_s"] == 10.0


def test_a_reading_covers_the_steps_since_the_last_one(clock):
    meter = Throughput([Device("cpu")])
    meter.add(num_tokens=100, flops=1.0)
    clock.now += 1.0
    meter.read()
    meter.add(num_tokens=10, flops=1.0)
    meter.add(num_tokens=30, flops=1.0)
    clock.now += 4.0
    assert meter.read() == {"step_s": 2.0, "tokens_per_s": 10.0}  # no mfu where the peak is unknown
    assert meter.read() == {}


def test_compiles_are_counted_once_for_each_shape():
    @jax.jit
    def double(x):
        return x * 2

    x, y = jnp.ones(3), jnp.ones(4)
    with CompileCounter() as counter:
        double(x)
        double(x)
        assert counter.count == 1
        double(y)
    assert counter.count == 2
    double(jnp.ones(5))
    assert counter.count == 2


def test_peak_memory_is_the_largest_over_the_devices():
    devices = [Device("gpu", {"peak_bytes_in_use": 2**30}), Device("gpu", {"peak_bytes_in_use": 3 * 2**30})]
    assert peak_memory_gib(devices) == 3.0
    assert peak_memory_gib([Device("cpu")]) is None
