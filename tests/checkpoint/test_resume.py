"""Conversions that are killed, and go on."""

import errno
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from phi4r.checkpoint import convert, hf_files, params_store, safetensors_writer
from phi4r.checkpoint.hf_layout import hf_leaves, leaf_dtypes
from phi4r.checkpoint.journal import JOURNAL_FILE, Journal, conversion_key
from phi4r.checkpoint.pieces import tensor_pieces
from phi4r.checkpoint.safetensors_reader import SafetensorsFolder
from phi4r.errors import UserError

# Converts, and kills itself with SIGKILL in the write number LAST.
KILLED = """
import os, signal, sys
os.environ["JAX_PLATFORMS"] = "cpu"
from phi4r.checkpoint import convert, copying, params_store, safetensors_writer
direction, source, destination, last = sys.argv[1:]
copying.WRITERS = 1
sink = params_store.ParamsFolder if direction == "hf_to_orbax" else safetensors_writer.SafetensorsWriter
write_rows, count = sink.write_rows, 0
def write(self, piece, rows):
    global count
    count += 1
    if count == int(last):
        os.kill(os.getpid(), signal.SIGKILL)
    write_rows(self, piece, rows)
sink.write_rows = write
getattr(convert, direction)(source, destination)
"""
SINKS = {"hf_to_orbax": params_store.ParamsFolder, "orbax_to_hf": safetensors_writer.SafetensorsWriter}


@pytest.fixture(params=SINKS)
def conversion(request, hf_folder, tmp_path):
    """(direction, source, what an uninterrupted conversion makes of it)."""
    source = hf_folder()
    if request.param == "orbax_to_hf":
        convert.hf_to_orbax(source, tmp_path / "orbax")
        source = tmp_path / "orbax"
    getattr(convert, request.param)(source, tmp_path / "whole")
    return request.param, source, tmp_path / "whole"


@pytest.fixture
def written(conversion, monkeypatch):
    """The names of the tensors that are written from now on."""
    names = []
    sink = SINKS[conversion[0]]
    real = sink.write_rows

    def write(self, piece, rows):
        names.append(piece.name)
        real(self, piece, rows)

    monkeypatch.setattr(sink, "write_rows", write)
    return names


def contents(folder):
    """All files of a folder but those in which Orbax notes time and place of the conversion."""
    noted = ("_CHECKPOINT_METADATA", "commit_success.txt")
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in noted)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def spoil(partial, direction, name):
    """Changes a value of a tensor in an unfinished folder."""
    hf_config = hf_files.read_json(partial / "config.json")
    leaves = hf_leaves(hf_files.parse_config(hf_config, partial), fused=True)
    if direction == "hf_to_orbax":
        sink = params_store.ParamsFolder(partial, leaves)
        dtypes = sink.dtypes
    else:
        folder = SafetensorsFolder(partial)
        dtypes = leaf_dtypes(leaves, folder.specs, "")
        sink = safetensors_writer.SafetensorsWriter(partial, folder.layout, folder.specs)
    piece = tensor_pieces(leaves, dtypes)[name][0]
    rows = sink.read_rows(piece)
    rows.reshape(-1)[0] += 1
    sink.write_rows(piece, rows)


def test_a_killed_conversion_goes_on_where_it_was(conversion, written, tmp_path):
    direction, source, whole = conversion
    command = [sys.executable, "-c", KILLED, direction, source, tmp_path / "out", "9"]
    assert subprocess.run(command, cwd=pathlib.Path(__file__).parents[2], capture_output=True).returncode == -9
    partial = tmp_path / "out.partial"
    assert not (tmp_path / "out").exists() and partial.is_dir()
    lines = (partial / JOURNAL_FILE).read_text().splitlines()[1:]
    done = [json.loads(line)["name"] for line in lines]
    assert 2 <= len(done) <= 8
    spoil(partial, direction, done[1])  # what is noted as written is compared all the same
    written.clear()
    getattr(convert, direction)(source, tmp_path / "out")
    assert set(written) & set(done) == {done[1]}
    assert contents(tmp_path / "out") == contents(whole)
    assert not partial.exists()


def interrupt(monkeypatch, direction, error, *, at=4):
    """Lets the write number `at` fail."""
    sink, count = SINKS[direction], itertools.count(1)
    real = sink.write_rows

    def write(self, piece, rows):
        if next(count) == at:
            raise error
        real(self, piece, rows)

    monkeypatch.setattr(sink, "write_rows", write)


def test_a_full_disk_is_one_line_and_loses_nothing(conversion, tmp_path, monkeypatch):
    direction, source, whole = conversion
    with monkeypatch.context() as patch:
        interrupt(patch, direction, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(UserError, match=r"the disk is full.*goes on from \S+out\.partial\.") as caught:
            getattr(convert, direction)(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    getattr(convert, direction)(source, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole)


def touch(source):
    path = next(path for path in sorted(source.rglob("*")) if path.is_file())
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("change", ["dtype", "source"])
def test_what_another_conversion_left_is_not_used(conversion, written, tmp_path, monkeypatch, change):
    direction, source, _ = conversion
    shutil.copytree(source, tmp_path / "copy")
    with monkeypatch.context() as patch:
        interrupt(patch, direction, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            getattr(convert, direction)(tmp_path / "copy", tmp_path / "out")
    assert (tmp_path / "out.partial" / JOURNAL_FILE).is_file()
    (tmp_path / "out.partial" / "stale").write_text("x")
    if change == "source":
        touch(tmp_path / "copy")
    written.clear()
    getattr(convert, direction)(tmp_path / "copy", tmp_path / "out", dtype="float32" if change == "dtype" else None)
    manifest = json.loads(
        (source if direction == "orbax_to_hf" else tmp_path / "out").joinpath(hf_files.MANIFEST_FILE).read_text()
    )
    assert set(written) == set(manifest)
    assert not (tmp_path / "out" / "stale").exists()


def test_two_conversions_into_one_folder_are_refused(hf_folder, tmp_path):
    source = hf_folder()
    key = conversion_key(source, {})
    (tmp_path / "out.partial").mkdir()
    with Journal(tmp_path / "out.partial", key):
        with pytest.raises(UserError, match="is being written by another conversion"):
            convert.hf_to_orbax(source, tmp_path / "out")
        assert (tmp_path / "out.partial" / JOURNAL_FILE).is_file()


def test_a_torn_journal_counts_up_to_the_tear(tmp_path):
    journal = Journal(tmp_path, "key")
    journal.add("a", "1")
    journal.add("b", "2")
    path = tmp_path / JOURNAL_FILE
    whole = path.read_bytes()
    for torn in (whole + b'{"name": "c", "sh', whole + b"\0\0\0\n"):
        path.write_bytes(torn)
        journal._file.close()
        journal = Journal(tmp_path, "key")
        assert journal.done == {"a": "1", "b": "2"}
        assert path.read_bytes() == whole
