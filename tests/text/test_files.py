import pytest

from phi4r.errors import UserError
from phi4r.text.files import read_tokenizer_files, write_files


def test_tokenizer_files_are_read_and_written_byte_for_byte(small_folder, tmp_path):
    write_files(tmp_path / "new" / "folder", read_tokenizer_files(small_folder))
    copied = {path.name: path.read_bytes() for path in (tmp_path / "new" / "folder").iterdir()}
    assert copied == {path.name: path.read_bytes() for path in small_folder.iterdir()}
    assert copied.keys() == {"tokenizer.model", "tokenizer_config.json", "chat_template.jinja"}


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds neither"):
        read_tokenizer_files(tmp_path)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "b").mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(UserError, match="cannot write"):
        write_files(tmp_path, {"b": b"2"})
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_files(tmp_path / "file", {"a": b"1"})
