import pytest

from phi4r.tools import cli
from tests.evals.reporting.folders import write_evaluation


def refused(capsys, *argv) -> str:
    """The one line with which a command is refused."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", *map(str, argv)])
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_the_report_is_written_and_told(tmp_path, capsys):
    folder = write_evaluation(tmp_path / "A")
    cli.main(["report", f"SFT={folder}", f"--output={tmp_path}/new/report"])
    out, err = capsys.readouterr()
    assert out == f"wrote {tmp_path}/new/report/report.html: 4 figures, 5 tables\n" and err == ""
    assert '<p class="subtitle">SFT</p>' in (tmp_path / "new" / "report" / "report.html").read_text()


def test_what_is_left_out_is_said_on_stderr(tmp_path, capsys):
    write_evaluation(tmp_path / "A", num_items=9)
    cli.main(["report", str(tmp_path / "A"), f"--output={tmp_path}/report"])
    assert capsys.readouterr().err == (
        "phi4r report: A, aime_2025: not finished; 4 of 9 items in 2 runs count, 0 other responses are left out.\n"
    )


def test_checkpoints_need_steps_in_their_names(tmp_path, capsys):
    folder = write_evaluation(tmp_path / "A")
    said = refused(capsys, "--checkpoints", f"last={folder}", f"--output={tmp_path}/report")
    assert said == "phi4r report: --checkpoints: 'last' has no step in its name; name it, as step-100=DIR."


def test_a_folder_without_evaluations_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "empty has no evaluation to report" in refused(capsys, tmp_path / "empty", f"--output={tmp_path}/report")
    assert not (tmp_path / "report").exists()
