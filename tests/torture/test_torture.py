"""Runs that are killed at random moments, told to stop, or out of disk, against runs that nobody disturbs.

KILLS in the environment says how many kills (default 20; `make torture` 200).
"""

import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

from tests.torture.experiments import complete_steps, open_forker, outcome, write_experiments

KILLS = int(os.environ.get("KILLS", "20"))
NAMES = [
    "sft",
    "grpo",
    pytest.param(
        "pipeline", marks=pytest.mark.skipif("KILLS" not in os.environ, reason="takes a minute; `make torture`")
    ),
]
SAVING = ".orbax-checkpoint-tmp"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("torture")
    write_experiments(path)
    return path


@pytest.fixture(scope="module")
def forker(folder):
    with open_forker(folder) as forker:
        yield forker


@pytest.fixture(scope="module")
def undisturbed(folder, forker):
    """Returns a function: name -> (outcome, seconds from start to end) of the run that nobody disturbs."""
    known = {}

    def get(name):
        if name not in known:
            workdir = folder / f"{name}_undisturbed"
            started = time.monotonic()
            run(forker, name, workdir)
            # Half of the time went into programs that others find in the cache.
            known[name] = outcome(workdir), (time.monotonic() - started) / 2
        return known[name]

    return get


def run(forker, name, workdir, *overrides, code=0):
    """Runs an experiment and returns what it printed."""
    assert forker.start(name, workdir, *overrides).wait() == code, pathlib.Path(f"{workdir}.log").read_text()
    return pathlib.Path(f"{workdir}.log").read_text()


def lines_in(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def is_saving(workdir):
    return any(SAVING in path.name for path in (workdir / "checkpoints").glob("*"))


def await_moment(kind, workdir, rng, *, seconds):
    """Returns at a random moment: of the whole run, soon after the next line of metrics, or in the next save."""
    deadline = time.monotonic() + (rng.uniform(0.0, seconds) if kind == "any" else 10 * seconds)
    lines = lines_in(workdir / "metrics.jsonl")
    while time.monotonic() < deadline:
        if kind == "step" and lines_in(workdir / "metrics.jsonl") > lines:
            time.sleep(rng.uniform(0.0, 0.1))
            return
        if kind == "save" and is_saving(workdir):
            time.sleep(rng.uniform(0.0, 0.03))
            return
        if (workdir / "params").exists():
            return
        time.sleep(0.001)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_killed_again_and_again_is_the_undisturbed_run_bit_for_bit(folder, forker, undisturbed, name):
    expected, seconds = undisturbed(name)
    rng = random.Random(name)
    kills = in_saves = resumed = rounds = 0

    def enough():  # whatever the moments that chance chose, some are in a save and some leave steps to resume from
        return (kills >= KILLS // 2 and in_saves and resumed) or kills >= 4 * KILLS

    while not enough():
        rounds += 1
        workdir = folder / f"{name}_{rounds}"
        code = None
        while code != 0:
            resumed += bool(complete_steps(workdir))
            complete = (workdir / "params").exists()  # killed at its very end: the next start only finds that out
            process = forker.start(name, workdir)
            if not enough() and not complete:
                await_moment(rng.choice(["any", "step", "save"]), workdir, rng, seconds=seconds)
                process.send(signal.SIGKILL)
            code = process.wait()
            assert code in (0, -signal.SIGKILL), pathlib.Path(f"{workdir}.log").read_text()
            kills += code != 0
            in_saves += code != 0 and is_saving(workdir)
        assert outcome(workdir) == expected
    print(f"{name}: {kills} kills, {in_saves} of them in a save; {resumed} resumes, {rounds} runs, all equal")
    assert kills >= KILLS // 2 and in_saves and resumed


@pytest.mark.parametrize("name", NAMES)
def test_a_run_told_to_stop_saves_exits_with_75_and_goes_on(folder, forker, undisturbed, name):
    expected, seconds = undisturbed(name)
    workdir = folder / f"{name}_told"
    process = forker.start(name, workdir)
    await_moment("step", workdir, random.Random(0), seconds=seconds)
    process.send(signal.SIGTERM)
    assert process.wait() == 75
    step = complete_steps(workdir)[-1]
    said = pathlib.Path(f"{workdir}.log").read_text().splitlines()[-1]
    assert said == f"phi4r: told to stop (SIGTERM): saved after step {step}; the same command again goes on from there."
    run(forker, name, workdir)
    assert outcome(workdir) == expected


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, of 520 KiB, and a function that gives it more room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=520k", "none", disk], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"cannot mount a small disk here: {mount.stderr.strip()}")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_is_one_line_and_loses_nothing(forker, undisturbed, small_disk, tmp_path):
    disk, enlarge = small_disk
    workdir = disk / "run"
    (disk / "run.log").symlink_to(tmp_path / "log.txt")  # what it says must not need the disk
    said = run(forker, "sft", workdir, "--config.keep=100", code=2)
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert last.startswith("phi4r: cannot write ") and "the disk is full" in last  # whatever met with it first
    steps = complete_steps(workdir)
    assert steps and (f"it goes on from step {steps[-1]}" in last or "it goes on from its last checkpoint" in last)
    enlarge()
    run(forker, "sft", workdir, "--config.keep=100")
    assert complete_steps(workdir)[: len(steps)] == steps
    assert outcome(workdir) == undisturbed("sft")[0]
