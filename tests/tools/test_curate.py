import os
import subprocess
import sys

import pytest

from phi4r.curation.table import STAGES
from phi4r.tools import cli
from phi4r.tools.curate import stages_text


def curate(repository, *argv):
    """Runs `phi4r curate` as a person does: the installed command does not have the folder it runs in on its path."""
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-P", "-m", "phi4r.tools.cli", "curate", *map(str, argv)]
    return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True)


def test_one_stage_after_the_other_from_the_command_line(repository, tmp_path):
    tiny = ("--config=configs/curate.py:tiny", f"--workdir={tmp_path / 'run'}")
    first = curate(repository, *tiny, "--until=exact_duplicates")
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, "00-seeds: 390 in, 390 kept, 0s")
    assert "01-exact_duplicates: 390 in, 360 kept, 30 dropped (exact duplicate 30)" in first.stdout
    then = curate(repository, *tiny, "--only=clusters")
    assert (then.returncode, then.stdout) == (2, "")
    assert then.stderr == (
        "phi4r: --only=clusters: near_duplicates comes before it: not finished; run --until=near_duplicates first.\n"
    )


def test_a_misspelt_setting_is_one_line_and_leaves_nothing(repository, tmp_path):
    result = curate(
        repository,
        "--config=configs/curate.py:tiny",
        f"--workdir={tmp_path / 'run'}",
        "--config.stages.screens.min_word=3",
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1 and "did you mean config.stages.screens.min_words?" in result.stderr
    assert not (tmp_path / "run").exists()


def test_all_stages_are_listed_with_their_settings(capsys):
    cli.main(["curate", "--stages"])
    text = capsys.readouterr().out
    assert text == stages_text() + "\n"
    assert all(f"config.stages.{name}: " in text for name in STAGES)
    assert "config.stages.near_duplicates: prefer, threshold, ngram, num_values, num_bands, seed" in text


def test_config_and_workdir_are_needed(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["curate"])
    assert stopped.value.code == 2
    assert "give --config=configs/NAME.py[:ARG] and --workdir=DIR, or --stages" in capsys.readouterr().err
