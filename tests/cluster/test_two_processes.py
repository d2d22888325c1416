"""Two processes of four devices each, joined by gloo, against one process of eight devices."""

import json
import os
import pathlib
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
        "save_every": 2,
        "log_every": 1,
        "export_dtype": "float32",
    }
    grpo = {
        "experiment": "grpo",
        "init_from": str(base_folder),
        "task": "chains:train?num=12&min_ops=2&max_ops=3",
        "sampler": {"prompt_length": 24, "max_response": 8, "rows_per_wave": 16},
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
    root = tmp_path_factory.mktemp("together")
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


@pytest.mark.parametrize("name", ["sft", "grpo"])
def test_two_processes_have_the_losses_of_one(name, alone, together):
    expected, got = read_metrics(alone / name), read_metrics(together / name)
    assert [line["step"] for line in got] == [line["step"] for line in expected]
    for key in ("loss", "grad_norm", "param_norm", "entropy"):
        values = [[line[key] for line in lines] for lines in (got, expected)]
        np.testing.assert_allclose(*values, rtol=1e-5, err_msg=key)


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
