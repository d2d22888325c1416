import errno
import json
import os
import subprocess
import sys

import pytest

from configs.sft_phi4_reasoning import get_config
from phi4r import main
from phi4r.errors import UserError
from phi4r.train.preemption import Preempted

SFT = "--config=configs/sft_phi4_reasoning.py:tiny"


def run(repository, *argv):
    """Runs `python -m phi4r.main` as a person does."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "phi4r.main", *map(str, argv)]
    return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True)


BAD_INPUT = {
    "misspelt key": (
        [SFT, "--config.optimizer.learning_rat=1", "--workdir={new}"],
        "config.optimizer.learning_rat is not a setting; did you mean config.optimizer.learning_rate?",
    ),
    "misspelt section": (
        [SFT, "--config.optimiser.learning_rate=1", "--workdir={new}"],
        'Did you mean "optimizer" instead of "optimiser"',
    ),
    "value of another type": (
        [SFT, "--config.num_steps=many", "--workdir={new}"],
        "--config.num_steps=many",
    ),
    "unknown experiment": (
        [SFT, "--config.experiment=pretrain", "--workdir={new}"],
        "config.experiment must be 'sft', 'grpo'",
    ),
    "missing config file": (["--config=configs/nothing.py", "--workdir={new}"], "No such file"),
    "missing config file with an override": (
        ["--config=configs/nothing.py", "--config.seed=1", "--workdir={new}"],
        "No such file",
    ),
    "config file with an import of nothing": (
        ["--config={file}", "--workdir={new}"],
        "the config file imports what there is not: No module named 'nowhere'",
    ),
    "unknown size": (
        ["--config=configs/grpo_phi4_reasoning_plus.py:huge", "--workdir={new}"],
        "'huge' is not a size of this config; take paper or tiny or ",
    ),
    "no flags": ([], "give --config=configs/NAME.py[:ARG] and --workdir=DIR"),
    "no workdir": ([SFT], "--workdir=DIR"),
    "misspelt flag": ([SFT, "--wrkdir={new}"], "Did you mean: workdir"),
    "stray word": ([SFT, "--workdir={new}", "now"], "'now' is not a flag"),
    "unwritable workdir": ([SFT, "--workdir={file}/run"], "cannot write to workdir"),
}


@pytest.mark.parametrize(("argv", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_nothing(repository, tmp_path, argv, message):
    (tmp_path / "file").write_text("from nowhere import something\n")
    places = {"new": tmp_path / "new", "file": tmp_path / "file"}
    result = run(repository, *(argument.format(**places) for argument in argv))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("phi4r: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_help_says_how_to_run_an_experiment(repository):
    result = run(repository, "--help")
    assert result.returncode == 0
    assert "--config=configs/NAME.py[:ARG] --workdir=DIR" in result.stdout
    assert "--workdir" in result.stdout and "--config.a.b=VALUE" in result.stdout


# In this process


def test_an_error_of_the_run_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    def refuse(config, workdir):
        raise UserError("the data is empty; write some.")

    monkeypatch.setattr(main, "run_experiment", refuse)
    monkeypatch.setattr(main, "_CONFIG", Flag(get_config("tiny")))
    monkeypatch.setattr(main, "_COORDINATOR", Flag(None))
    monkeypatch.setattr(main, "_WORKDIR", Flag(str(tmp_path)))
    with pytest.raises(SystemExit) as stopped:
        main.run_main([])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "phi4r: the data is empty; write some.\n"


def test_a_run_that_was_told_to_stop_says_so_with_code_75(tmp_path, monkeypatch, capsys):
    def stop(config, workdir):
        raise Preempted(12)

    monkeypatch.setattr(main, "run_experiment", stop)
    monkeypatch.setattr(main, "_CONFIG", Flag(get_config("tiny")))
    monkeypatch.setattr(main, "_COORDINATOR", Flag(None))
    monkeypatch.setattr(main, "_WORKDIR", Flag(str(tmp_path)))
    with pytest.raises(SystemExit) as stopped:
        main.run_main([])
    assert stopped.value.code == 75
    assert capsys.readouterr().err.startswith("phi4r: told to stop (SIGTERM): saved after step 12; ")


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, SystemExit), (errno.EIO, OSError)])
def test_a_full_disk_is_one_line_and_other_failures_keep_their_traceback(
    tmp_path, monkeypatch, capsys, number, expected
):
    def fail(config, workdir):
        raise OSError(number, os.strerror(number), "metrics.jsonl")

    monkeypatch.setattr(main, "run_experiment", fail)
    monkeypatch.setattr(main, "_CONFIG", Flag(get_config("tiny")))
    monkeypatch.setattr(main, "_COORDINATOR", Flag(None))
    monkeypatch.setattr(main, "_WORKDIR", Flag(str(tmp_path)))
    with pytest.raises(expected) as raised:
        main.run_main([])
    if expected is SystemExit:
        assert raised.value.code == 2
        assert capsys.readouterr().err.startswith(f"phi4r: cannot write to {tmp_path}: the disk is full (")


def test_an_interrupted_run_does_not_look_like_a_finished_one(tmp_path, monkeypatch):
    def interrupt(config, workdir):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "run_experiment", interrupt)
    monkeypatch.setattr(main, "_CONFIG", Flag(get_config("tiny")))
    monkeypatch.setattr(main, "_COORDINATOR", Flag(None))
    monkeypatch.setattr(main, "_WORKDIR", Flag(str(tmp_path)))
    with pytest.raises(SystemExit) as stopped:
        main.run_main([])
    assert stopped.value.code == 130


class Flag:
    """A flag that was parsed."""

    def __init__(self, value):
        self.value = value


def test_the_config_becomes_settings_and_is_stored_in_the_workdir(tmp_path, monkeypatch):
    from phi4r.train import sft

    runs = []
    monkeypatch.setattr(sft, "run_sft", lambda settings, workdir: runs.append((settings, workdir)) or {"loss": 1.0})
    config = get_config("tiny")
    config.optimizer.learning_rate = 0.125
    config.init_from = "{workdir}/base"
    assert main.run_experiment(config, tmp_path / "run") == {"loss": 1.0}
    [(settings, workdir)] = runs
    assert workdir == tmp_path / "run"
    assert settings.optimizer.learning_rate == 0.125
    assert settings.init_from == f"{tmp_path}/run/base"
    stored = json.loads((workdir / "config.json").read_text())
    assert stored["optimizer"]["learning_rate"] == 0.125 and stored["experiment"] == "sft"
    assert [path.name for path in workdir.iterdir()] == ["config.json"]
