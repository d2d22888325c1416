"""Launch scripts, run with a stand-in for Python that prints what it was given."""

import importlib
import os
import pathlib
import re
import stat
import subprocess

import pytest

LAUNCH = pathlib.Path(__file__).parent.parent / "launch"
SCRIPTS = sorted(LAUNCH.iterdir())
SETTINGS = ("CONFIG", "WORKDIR", "DEVICES", "PYTHON", "XLA_FLAGS", "XLA_CLIENT_MEM_FRACTION", "CUDA_VISIBLE_DEVICES")

pytestmark = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)


@pytest.fixture
def call(tmp_path):
    """Returns a function that runs a script from another folder; the stand-in prints folder, arguments and settings."""
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/usr/bin/env bash\npwd\nprintf "%s\\n" "$@"\nenv | grep -E "^(XLA|JAX|CUDA)" || true\n')
    stand_in.chmod(0o755)
    inherited = {k: v for k, v in os.environ.items() if k not in SETTINGS and not k.startswith(("SLURM", "JAX"))}

    def run(script: pathlib.Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
        env = {**inherited, "PYTHON": str(stand_in), **settings}
        return subprocess.run([script, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=30)

    return run


def flag(lines: list[str], name: str) -> str:
    return next(line for line in lines if line.startswith(f"--{name}=")).partition("=")[2]


def test_the_script_is_sound_bash_and_executable(script):
    subprocess.run(["bash", "-n", script], check=True, timeout=30)
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text


def test_help_says_how_to_call_it_and_runs_nothing(script, call):
    result = call(script, "--help")
    assert result.returncode == 0
    assert f"launch/{script.name} [--config.key=value ...]" in result.stdout
    for heading in ("What:", "When:", "Needs:", "Settings (environment):"):
        assert heading in result.stdout
    assert "phi4r.main\n" not in result.stdout and "#SBATCH" not in result.stdout


def test_it_runs_main_in_the_repository_and_passes_flags_on(script, call):
    result = call(script, "--config.seed=3", "--config.a.b=two words")
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr
    assert pathlib.Path(lines[0]).resolve() == LAUNCH.parent.resolve()
    assert lines[1:3] == ["-m", "phi4r.main"]
    assert flag(lines, "workdir").startswith("runs/")
    assert lines[5:7] == ["--config.seed=3", "--config.a.b=two words"]


def test_settings_come_from_the_environment(script, call):
    lines = call(script, CONFIG="configs/mine.py:tiny", WORKDIR="runs/mine").stdout.splitlines()
    assert flag(lines, "config") == "configs/mine.py:tiny"
    assert flag(lines, "workdir") == "runs/mine"


def test_every_config_that_it_names_exists(script, call):
    named = set(re.findall(r"configs/(\w+)\.py(?::(\w+))?", script.read_text()))
    path, _, size = flag(call(script).stdout.splitlines(), "config").partition(":")
    assert (pathlib.Path(path).stem, size) in named
    for name, size in named:
        config = importlib.import_module(f"configs.{name}").get_config(*([size] if size else []))
        assert config.experiment


def test_it_names_the_platform_so_that_a_missing_device_is_an_error(script, call):
    lines = call(script).stdout.splitlines()
    kind = script.name.partition(".")[0]
    expected = {"laptop": "cpu", "gpu_single": "cuda,cpu", "slurm_gpu": "cuda,cpu", "tpu_vm": "tpu,cpu"}[kind]
    assert f"JAX_PLATFORMS={expected}" in lines


def test_xla_flags_of_the_caller_are_kept(script, call):
    lines = call(script, XLA_FLAGS="--xla_dump_to=/tmp/x", DEVICES="4").stdout.splitlines()
    flags = next(line for line in lines if line.startswith("XLA_FLAGS=")).removeprefix("XLA_FLAGS=").split()
    devices = ["--xla_force_host_platform_device_count=4"] if script.name == "laptop.sh" else []
    assert flags == [*devices, "--xla_dump_to=/tmp/x"]


def test_several_hosts_are_joined(script, call, tmp_path):
    srun = tmp_path / "srun"
    srun.write_text('#!/usr/bin/env bash\necho srun\nexec "$@"\n')
    srun.chmod(0o755)
    result = call(
        script,
        SLURM_JOB_NUM_NODES="2",
        SLURM_GPUS_ON_NODE="4",
        COORDINATOR="auto",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
    )
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr
    of_many = script.name in ("slurm_gpu.sbatch", "tpu_vm.sh")
    assert ("--coordinator=auto" in lines) == of_many
    if script.suffix == ".sbatch":
        assert lines[0] == "srun"
        assert "JAX_LOCAL_DEVICE_IDS=0,1,2,3" in lines
