import pytest

from phi4r.errors import UserError
from phi4r.planning.cache import Compiled, default_folder, load, program_hash, save

COMPILED = Compiled({"argument": 7}, 1.5, None, "HloModule f", "allocation 0")


def test_an_entry_comes_back_as_it_was(tmp_path):
    assert load(tmp_path / "new", "name") is None
    save(tmp_path / "new", "name", COMPILED)
    assert load(tmp_path / "new", "name") == COMPILED
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["name"]


def test_a_damaged_entry_is_compiled_again(tmp_path):
    save(tmp_path, "name", COMPILED)
    (tmp_path / "name" / "program.txt.gz").write_bytes(b"not gzip")
    assert load(tmp_path, "name") is None
    save(tmp_path, "name", COMPILED)
    assert load(tmp_path, "name") == COMPILED


def test_everything_that_decides_the_result_is_in_the_name():
    base = ("module", "v5p:4x4x4", [0, 1], "jax 1")
    other = [
        ("module2", *base[1:]),
        (base[0], "v6e:4x4", *base[2:]),
        (*base[:2], [1, 0], base[3]),
        (*base[:3], "jax 2"),
    ]
    assert len({program_hash(*parts) for parts in (base, *other)}) == 5


def test_the_folder_follows_the_desktop_standard(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert str(default_folder()) == "/elsewhere/phi4r/plan"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --cache"):
        save(tmp_path / "file", "name", COMPILED)
