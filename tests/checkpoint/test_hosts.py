"""Two processes of four devices each load and save one model."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from phi4r.checkpoint import convert
from phi4r.checkpoint.hf_layout import hf_leaves, tensor_shapes
from phi4r.model.config import ModelConfig
from tests.checkpoint.conftest import write_random_folder

CONFIG = ModelConfig(vocab_size=512, num_layers=3, embed_dim=512, num_heads=8, num_kv_heads=4, head_dim=64, mlp_dim=768)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two hosts left of one model: see host.py."""
    root = tmp_path_factory.mktemp("hosts")
    write_random_folder(root / "hf", CONFIG)
    (root / "hf" / "tokenizer.json").write_text("{}")
    convert.hf_to_orbax(root / "hf", root / "orbax")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [sys.executable, pathlib.Path(__file__).with_name("host.py"), coordinator]
    runs = [
        subprocess.Popen(
            [*command, str(index), root], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for index in range(2)
    ]
    try:
        outputs = [run.communicate(timeout=120)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], "\n".join(output[-3000:] for output in outputs)
    return root


@pytest.fixture(scope="module")
def seen(folder):
    return [json.loads((folder / f"host{index}.json").read_text()) for index in range(2)]


@pytest.mark.parametrize("form", ["hf", "orbax"])
def test_each_host_reads_its_half(seen, form):
    shapes = tensor_shapes(hf_leaves(CONFIG, fused=True)).values()
    total = 4 * sum(rows * columns for rows, columns in (shape for shape in shapes if len(shape) == 2))
    norms = 4 * sum(shape[0] for shape in shapes if len(shape) == 1)
    for host in seen:
        assert host[form]["asked"] == total // 2 + norms  # every device holds whole norms
    if form == "orbax":  # the other form is mapped: the system does not say what was read
        assert all(total // 2 <= host[form]["read"] < 0.8 * total for host in seen)  # the rest: compiled programs


def test_what_two_hosts_save_is_what_they_loaded(folder):
    source = {path.name: path.read_bytes() for path in (folder / "hf").iterdir()}
    assert {path.name: path.read_bytes() for path in (folder / "hf2").iterdir()} == source
    convert.orbax_to_hf(folder / "orbax2", folder / "back")
    assert {path.name: path.read_bytes() for path in (folder / "back").iterdir()} == source
    assert json.loads((folder / "orbax2" / "safetensors_manifest.json").read_text()) == json.loads(
        (folder / "orbax" / "safetensors_manifest.json").read_text()
    )


def test_a_failure_on_one_host_is_one_on_both_and_leaves_nothing(folder, seen):
    for host in seen:
        taken, full = host["errors"]
        assert "hf2 exists already" in taken
        assert "the disk is full" in full
    assert not list(folder.glob("hf3*"))
