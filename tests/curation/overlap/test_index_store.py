import os

import numpy as np
import pytest

from phi4r.curation.overlap import index_store
from phi4r.curation.overlap.index_building import build_index
from phi4r.curation.overlap.index_store import file_states, stored_index
from phi4r.curation.overlap.protected_texts import ProtectedText
from phi4r.errors import UserError


@pytest.fixture(autouse=True)
def forgetful(monkeypatch):
    monkeypatch.setattr(index_store, "_at_hand", {})


class Builder:
    """Counts how often it builds."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return build_index([ProtectedText("b", "1", "prompt", "one two three")])


def test_an_index_is_built_once_and_then_read(tmp_path):
    build = Builder()
    first = stored_index(str(tmp_path), {"a": 1}, build)
    assert stored_index(str(tmp_path), {"a": 1}, build) is first
    index_store._at_hand.clear()  # as in another process
    again = stored_index(str(tmp_path), {"a": 1}, build)
    assert build.count == 1 and again is not first and isinstance(again.short, np.memmap)
    stored_index(str(tmp_path), {"a": 2}, build)
    assert build.count == 2
    assert len(list(tmp_path.iterdir())) == 2  # two indexes and nothing that is half written


def test_without_a_folder_each_process_builds_its_own():
    build = Builder()
    assert stored_index("", {"a": 1}, build) is stored_index("", {"a": 1}, build)
    assert build.count == 1


def test_a_process_that_was_slower_takes_the_index_of_the_faster_one(tmp_path):
    build = Builder()

    def slow():
        index_store._read_or_build(tmp_path / "index", build)
        return build()

    assert index_store._read_or_build(tmp_path / "index", slow).row(0)[3] == ["one", "two", "three"]
    assert build.count == 2 and [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write an index into"):
        stored_index(str(tmp_path / "file"), {"a": 1}, Builder())


def test_files_that_change_change_their_states(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("1")
    states = [file_states(place) for place in (str(file), str(tmp_path), str(tmp_path / "*.jsonl"))]
    assert states[0] == states[1] == states[2] and states[0][0][:2] == [str(file), 1]
    os.utime(file, ns=(0, 0))
    assert file_states(str(file)) != states[0]
    assert file_states("") == file_states("tfds:name/train") == []
