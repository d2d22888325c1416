import sqlite3

import pytest

from phi4r.curation.intake.seed_database import SeedDatabase
from phi4r.curation.item import Item
from phi4r.errors import UserError

A, B, C = (Item(f"s/{name}", f"prompt {name}", "5", source="s", licence="MIT", meta={"n": name}) for name in "abc")
A2 = Item("s/a", "prompt a, mended", "6", source="s", licence="MIT")


@pytest.fixture
def database(tmp_path):
    opened = SeedDatabase(tmp_path / "deep" / "seeds.sqlite")
    yield opened
    opened.close()


def add(database, *items, **settings):
    with database.importing(settings) as started:
        return [started.add(item) for item in items]


def test_a_second_import_adds_only_what_is_new_and_each_seed_knows_its_first_version(database):
    assert add(database, A, B, place="one") == ["new", "new"]
    assert add(database, B, C, place="two") == ["known", "new"]
    assert list(database.read()) == [(1, A), (1, B), (2, C)]
    assert list(database.read(1)) == [(1, A), (1, B)]
    first, second = database.imports()
    assert (first["version"], first["num_read"], first["num_new"], first["settings"]) == (1, 2, 2, {"place": "one"})
    assert (second["version"], second["num_read"], second["num_new"], second["settings"]) == (2, 2, 1, {"place": "two"})
    assert first["date"].endswith("Z") and first["code"]


def test_a_seed_that_has_changed_is_a_new_row_and_older_versions_keep_the_old_one(database):
    add(database, A, B)
    assert add(database, A2) == ["changed"]
    assert list(database.read(1)) == [(1, A), (1, B)]
    assert list(database.read(2)) == [(1, A2), (1, B)]
    assert [(row["num_new"], row["num_changed"]) for row in database.imports()] == [(2, 0), (0, 1)]


def test_an_import_that_brings_nothing_is_no_version(database):
    add(database, A)
    assert add(database, A) == ["known"]
    assert database.last_version == 1 and len(database.imports()) == 1


def test_within_an_import_a_row_again_is_told_from_another_row_of_the_same_id(database):
    assert add(database, A, A, A2) == ["new", "repeated", "conflict"]
    assert add(database, A, A, A2) == ["known", "repeated", "conflict"]
    assert list(database.read()) == [(1, A)]


def test_an_import_that_breaks_off_leaves_nothing(database):
    add(database, A)
    with pytest.raises(ZeroDivisionError), database.importing({}) as started:
        started.add(B)
        raise ZeroDivisionError
    assert list(database.read()) == [(1, A)] and database.last_version == 1


def test_anything_can_be_asked_of_the_file(database):
    add(database, A, B)
    with sqlite3.connect(database.path) as connection:
        [row] = connection.execute("SELECT source, COUNT(*), MAX(json_extract(meta, '$.n')) FROM seeds GROUP BY source")
    assert row == ("s", 2, "b")


def test_a_version_that_there_is_not_is_one_line(database):
    with pytest.raises(UserError, match="has no version 3; the last one is 0"):
        list(database.read(3))


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("no database, and long enough to be taken for one " * 20)
    with pytest.raises(UserError, match="is no seeds database"):
        SeedDatabase(tmp_path / "notes.txt")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the seeds database"):
        SeedDatabase(tmp_path / "file" / "seeds.sqlite")


def test_two_imports_at_once_are_refused(database):
    other = SeedDatabase(database.path)
    other._connection.execute("PRAGMA busy_timeout = 0")
    with database.importing({}) as started:
        started.add(A)
        with pytest.raises(UserError, match="locked"), other.importing({}):
            pass
    other.close()
