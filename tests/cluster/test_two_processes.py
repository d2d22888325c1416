"""Two processes of four devices each, joined by gloo, against one process of eight; runs that go on in the other."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from phi4r.checkpoint.release import load_model
from phi4r.data.sources import open_source
from phi4r.main import run_experiment
from phi4r.metrics.writer import read_metrics

OPTIMIZER = {"learning_rate": 3e-3, "warmup_steps": 1, "schedule": "constant"}
# fsdp lies across the processes, context and tensor inside each.
MESH = {"fsdp": 2, "context": 2, "tensor": 2}
MODEL = {"dtype": "float32", "remat": "full"}


@pytest.fixture(scope="module")
def configs(base_folder, traces_file):
    sft = {
        "experiment": "sft",
        "init_from": str(base_folder),
        "data": {"sources": [{"spec": f"jsonl:{traces_file}"}], "row_length": 64, "global_batch": 8, "num_threads": 1},
        "num_steps": 3,
        "save_every": 1,
        "log_every": 1,
        "export_dtype": "float32",
    }
    grpo = {
        "experiment": "grpo",
        "init_from": str(base_folder),
        "task": "chains:train?num=12&min_ops=2&max_ops=3",
        "sampler": {"prompt_length": 24, "max_response": 8, "num_slots": 16},
        "num_steps": 2,
        "problems_per_step": 8,
        "grpo": {"group_size": 4},
        "reward": {"max_length": 8, "positive_control_length": 6, "negative_control_length": 4, "think_missing": 0.5},
        "save_every": 1,
    }
    shared = {"optimizer": OPTIMIZER, "mesh": MESH, "model": MODEL, "num_microbatches": 2, "logprob_chunk": 16}
    return {"sft": {**sft, **shared}, "grpo": {**grpo, **shared}}


@pytest.fixture(scope="module")
def alone(configs, tmp_path_factory):
    """The workdirs of the same experiments in this process, on its eight devices."""
    root = tmp_path_factory.mktemp("alone")
    for name, config in configs.items():
        run_experiment(ConfigDict(config), root / name)
    return root


@pytest.fixture(scope="module")
def together(configs, tmp_path_factory):
    """The workdirs of the experiments in two processes."""
    return run_together(configs, tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module")
def resumed(configs, alone, together, tmp_path_factory):
    """Workdirs that two processes finished: begun by one process, and begun by two whose newest checkpoint is damaged
    in what only the second process reads."""
    root = tmp_path_factory.mktemp("resumed")
    for name in configs:
        unfinish(alone / name, root / name)
    unfinish(together / "sft", root / "damaged")
    files = (root / "damaged" / "checkpoints" / "2" / "state" / "ocdbt.process_1" / "d").iterdir()
    largest = max(files, key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    return run_together({**configs, "damaged": configs["sft"]}, root)


def run_together(configs, root):
    """Runs experiments (name -> config) in root/name, in two processes; returns root."""
    (root / "configs.json").write_text(json.dumps(configs))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, pathlib.Path(__file__).with_name("process.py"), coordinator, "2"]
    logs = [root / f"{index}.log" for index in range(2)]
    runs = [
        subprocess.Popen(
            [*command, str(index), root / "configs.json", root],
            env=environment,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )
        for index, log in enumerate(logs)
    ]
    while any(run.poll() is None for run in runs) and not any(run.poll() for run in runs):
        time.sleep(0.2)  # one that fails leaves the other waiting for it
    for run in runs:
        run.kill()
    assert [run.wait() for run in runs] == [0, 0], "\n".join(log.read_text()[-5000:] for log in logs)
    return root


def unfinish(source, destination):
    """Copies a workdir without its last checkpoint and its results."""
    shutil.copytree(source, destination)
    checkpoints = sorted(path for path in (destination / "checkpoints").iterdir() if path.name.isdecimal())
    for path in (checkpoints[-1], destination / "params", destination / "hf"):
        shutil.rmtree(path, ignore_errors=True)


def assert_equal_numbers(got, expected, *, steps):
    """Compares the metrics of two workdirs to 1e-5."""
    got, expected = read_metrics(got), read_metrics(expected)
    assert [line["step"] for line in got] == [line["step"] for line in expected] == steps
    for key in ("loss", "grad_norm", "param_norm", "entropy"):
        values = [[line[key] for line in lines] for lines in (got, expected)]
        np.testing.assert_allclose(*values, rtol=1e-5, err_msg=key)


STEPS = {"sft": [1, 2, 3], "grpo": [1, 2]}


@pytest.mark.parametrize("name", STEPS)
def test_two_processes_have_the_losses_of_one(name, alone, together):
    assert_equal_numbers(together / name, alone / name, steps=STEPS[name])


@pytest.mark.parametrize("name", STEPS)
def test_a_run_of_one_process_goes_on_in_two(name, alone, resumed):
    assert_equal_numbers(resumed / name, alone / name, steps=STEPS[name])


@pytest.mark.parametrize("name", STEPS)
def test_a_run_of_two_processes_goes_on_in_one(name, configs, together, tmp_path):
    unfinish(together / name, tmp_path / name)
    run_experiment(ConfigDict(configs[name]), tmp_path / name)
    assert_equal_numbers(tmp_path / name, together / name, steps=STEPS[name])


def test_what_one_of_two_processes_cannot_read_both_skip(together, resumed):
    assert_equal_numbers(resumed / "damaged", together / "sft", steps=STEPS["sft"])
    names = {path.name for path in (resumed / "damaged" / "checkpoints").iterdir()}
    assert {"1", "2", "3"} < names and any(name.startswith("2") and name != "2" for name in names)


def test_two_processes_sample_the_same_tokens(alone, together):
    def tokens(root):
        files = sorted((root / "grpo" / "rollouts").glob("*.arrayrecord"))
        sources = [open_source(f"arrayrecord:{file}") for file in files]
        return [[source[row]["tokens"] for row in range(len(source))] for source in sources]

    assert tokens(together) == tokens(alone)
    assert len(tokens(alone)) == 2


@pytest.mark.parametrize("name", ["sft/params", "sft/hf", "grpo/params"])
def test_two_processes_write_the_parameters_of_one(name, alone, together):
    expected, got = load_model(alone / name).params, load_model(together / name).params
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), expected, got)
