import pytest

from phi4r.checkpoint.staging import staged_folder
from phi4r.errors import UserError


def test_the_folder_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "out"
    with staged_folder(target) as staging:
        (staging / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "out") as staging:
        (staging / "file").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_replaced(tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "stale").write_text("x")
    with staged_folder(tmp_path / "out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_an_empty_folder_is_filled_and_any_other_kept(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    with staged_folder(target) as staging:
        (staging / "file").write_text("x")
    with pytest.raises(UserError, match="exists already"), staged_folder(target):
        pass
    assert (target / "file").read_text() == "x"


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(UserError, match=r"cannot write to .*file/out.*choose a writable place"),
        staged_folder(tmp_path / "file" / "out"),
    ):
        pass


def test_a_full_disk_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="the disk is full"), staged_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
