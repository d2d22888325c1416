"""Moments in the memory of the host between updates. Run as a script, the file compiles them for a TPU."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.checkpoint.manager import CheckpointManager
from phi4r.checkpoint.release import load_model
from phi4r.planning.devices import compiler_environment, topology_devices
from phi4r.planning.topologies import parse_topology
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.train import sft
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.sft import run_sft
from phi4r.train.state import HOST, abstract_state, create_state, state_shardings
from phi4r.train.step import LossSum, make_update_fn

SETTINGS = OptimizerSettings(learning_rate=1e-2, warmup_steps=0)


def loss_fn(params, batch):
    error = jnp.tanh(batch @ params["a"]) @ params["b"] - 1.0
    return LossSum(jnp.sum(error**2), jnp.float32(batch.shape[0]), {})


def make_params(sharding):
    keys = jax.random.split(jax.random.key(0))
    return {name: jax.device_put(jax.random.normal(k, (16, 16)), sharding) for name, k in zip("ab", keys, strict=True)}


def train(offload, steps, state=None):
    mesh = make_mesh(MeshSettings(fsdp=8))
    sharding = jax.NamedSharding(mesh, jax.P("fsdp"))
    optimizer, _ = make_optimizer(SETTINGS, num_steps=100)
    if state is None:
        state = create_state(make_params(sharding), optimizer, offload=offload)
    update_fn = make_update_fn(loss_fn, optimizer, num_microbatches=2, state_shardings=state_shardings(state))
    batch = jax.device_put(jax.random.normal(jax.random.key(1), (16, 16)), sharding)
    for _ in range(steps):
        state, metrics = update_fn(state, batch)
    return state, metrics


def kinds(state):
    return {leaf.sharding.memory_kind for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim}


def test_offloaded_moments_give_the_same_run_and_stay_on_the_host():
    ours, theirs = train(True, 3), train(False, 3)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert (kinds(ours[0]), kinds(theirs[0])) == ({HOST}, {"device"})
    assert {leaf.sharding.memory_kind for leaf in jax.tree.leaves(ours[0].params)} == {"device"}


def test_a_resumed_run_goes_on_with_its_moments_on_the_host(tmp_path):
    half, _ = train(True, 2)
    with CheckpointManager(tmp_path) as manager:
        manager.save(2, half, {"position": 2})
    optimizer, _ = make_optimizer(SETTINGS, num_steps=100)
    abstract = abstract_state(half.params, optimizer, offload=True)
    with CheckpointManager(tmp_path) as manager:
        restored, _ = manager.restore(abstract)
    assert kinds(restored) == {HOST}
    resumed, whole = train(True, 2, restored)[0], train(True, 4)[0]
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert kinds(resumed) == {HOST}


class Killed(BaseException):
    """Stands for a process that dies: nothing in the code base catches it."""


def test_a_killed_run_with_drawn_roundings_and_moments_on_the_host_resumes_bit_for_bit(settings, tmp_path, monkeypatch):
    """By the loop of SFT, with parameters in bfloat16."""
    optimizer = dataclasses.replace(settings.optimizer, warmup_steps=1, rounding="stochastic", offload=True)
    model = dataclasses.replace(settings.model, param_dtype="bfloat16")
    settings = dataclasses.replace(settings, num_steps=3, save_every=2, optimizer=optimizer, model=model)
    run_sft(settings, tmp_path / "whole")
    rows_to_mesh, count = sft.host_rows_to_mesh, []

    def dying(batch, mesh):
        count.append(1)
        if len(count) == 3:
            raise Killed
        return rows_to_mesh(batch, mesh)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(sft, "host_rows_to_mesh", dying)
        run_sft(settings, tmp_path / "killed")
    run_sft(settings, tmp_path / "killed")
    ours, theirs = (jax.device_get(load_model(tmp_path / name / "params").params) for name in ("killed", "whole"))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(ours)} == {"bfloat16"}


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None or os.environ.get("PHI4R_ALL_TOPOLOGIES") != "1",
    reason="takes a minute: asks for libtpu and PHI4R_ALL_TOPOLOGIES=1",
)
def test_a_tpu_has_room_for_activations_where_the_moments_were():
    """Six matrices of 1024 x 1024: 24 MiB of parameters, 48 MiB of moments; activations of 64 MiB each."""
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")},
        **compiler_environment(parse_topology("v6e:2x2")),
    }
    result = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    kept, offloaded = (json.loads(line) for line in result.stdout.splitlines()[-2:])
    assert (kept["host"], offloaded["host"]) == pytest.approx((0, 48), abs=1)
    assert kept["device"] - offloaded["device"] == pytest.approx(48, abs=1)
    assert kept["all"] - offloaded["all"] >= 36  # at the peak, in the backward pass, most have not been fetched


def compile_for_a_tpu():
    """Prints MiB of arguments, and of all memory of the device, with moments there and on the host."""
    sharding = jax.sharding.SingleDeviceSharding(topology_devices(parse_topology("v6e:2x2"))[0])
    optimizer, _ = make_optimizer(SETTINGS, num_steps=100)
    matrix = jax.ShapeDtypeStruct((1024, 1024), jnp.float32, sharding=sharding)
    batch = jax.ShapeDtypeStruct((16_384, 1024), jnp.float32, sharding=sharding)

    def deep_loss(params, x):
        for name in sorted(params):
            x = jnp.tanh(x @ params[name])
        return LossSum(jnp.sum(x**2), jnp.float32(1.0), {})

    for offload in (False, True):
        state = abstract_state(dict.fromkeys("abcdef", matrix), optimizer, offload=offload)
        update_fn = make_update_fn(deep_loss, optimizer, state_shardings=state_shardings(state))
        memory = update_fn.lower(state, batch).compile().memory_analysis()
        arguments = memory.argument_size_in_bytes
        sizes = {"host": memory.host_argument_size_in_bytes, "device": arguments}
        sizes["all"] = arguments + memory.temp_size_in_bytes
        print(json.dumps({name: size / 2**20 for name, size in sizes.items()}))


if __name__ == "__main__":
    compile_for_a_tpu()
