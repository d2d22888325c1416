import pytest

from phi4r.data.sources import write_arrayrecord
from phi4r.tools import cli

RECORD = {
    "problem": "p0",
    "sample": 0,
    "prompt": "2 + 2 =",
    "reference": "4",
    "text": "4",
    "tokens": [7],
    "token_lengths": [1],
    "logprobs": [-0.5],
    "entropies": [0.5],
    "answer": "4",
    "status": "ok",
    "correct": True,
    "finish_reason": "stop",
    "reward": 1.0,
    "reward_accuracy": 1.0,
    "advantage": 0.0,
    "sample_s": 1.0,
    "judge_s": 1.0,
}


@pytest.fixture
def run(tmp_path):
    for step in (1, 2):
        write_arrayrecord(tmp_path / "run" / "rollouts" / f"{step:06d}.arrayrecord", [RECORD])
    return tmp_path / "run"


def refused(capsys, *argv) -> str:
    """The one line with which a command is refused."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["view", *map(str, argv)])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_the_page_lies_beside_the_rollouts_and_its_size_is_told(run, capsys):
    cli.main(["view", str(run)])
    size = (run / "rollouts.html").stat().st_size / 1e6
    assert capsys.readouterr().out == f"wrote {run}/rollouts.html: {size:.1f} MB, steps: 2, groups: 2\n"
    assert (run / "rollouts.html").read_text().startswith("<!doctype html>")


def test_output_and_steps_are_chosen(run, tmp_path, capsys):
    cli.main(["view", str(run / "rollouts"), f"--output={tmp_path}/new/page.html", "--steps=2"])
    assert "steps: 1, groups: 1" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


def test_a_folder_without_rollouts_is_refused(tmp_path, capsys):
    assert f"there are no rollouts in {tmp_path}" in refused(capsys, tmp_path)


def test_a_damaged_file_is_refused(run, capsys):
    (run / "rollouts" / "000002.arrayrecord").write_bytes(b"x" * 100)
    assert "000002.arrayrecord is not readable as ArrayRecord" in refused(capsys, run)


def test_an_output_that_cannot_be_written_is_refused(run, capsys):
    (run / "file").write_text("")
    assert "cannot write" in refused(capsys, run, f"--output={run}/file/page.html")


def test_a_step_without_a_rollout_is_refused(run, capsys):
    assert "there is no rollout of step 3; there are 1, 2." in refused(capsys, run, "--steps=3")
