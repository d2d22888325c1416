import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from phi4r.checkpoint.safetensors_reader import SafetensorsFolder
from phi4r.errors import UserError

TENSORS = {
    "x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "y": np.array([1.5, -2.0], ml_dtypes.bfloat16),
    "z": np.array([[0.25]], np.float16),
}


@pytest.fixture
def folder(tmp_path):
    """A folder with one file, written by the reference library."""
    safetensors.numpy.save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path


def write_raw(folder, header, data):
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def entry(start, stop, count):
    return {"dtype": "F32", "shape": [count], "data_offsets": [start, stop]}


def test_reads_what_the_reference_library_wrote(folder):
    tensors = SafetensorsFolder(folder)
    assert set(tensors) == set(TENSORS)
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(tensors[name], value)
        assert not tensors[name].flags.writeable


def test_layout_tells_order_and_metadata(folder):
    layout = SafetensorsFolder(folder).layout
    assert layout.files == {"model.safetensors": ("x", "y", "z")}  # widest dtype first, then by name
    assert layout.file_metadata == {"model.safetensors": {"format": "pt"}}
    assert layout.index_metadata is None


def test_every_truncation_is_refused_with_the_name_of_the_file(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"model\.safetensors is truncated.*copy or download the file again"):
            SafetensorsFolder(folder)


def test_bytes_after_the_last_tensor_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"abc")
    with pytest.raises(UserError, match="3 bytes after its last tensor"):
        SafetensorsFolder(folder)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 8, 2), "b": entry(4, 12, 2)}, "tensor b overlaps another"),
        ({"a": entry(0, 4, 1), "b": entry(8, 12, 1)}, "tensor b overlaps another or leaves a gap"),
        ({"a": entry(0, 12, 2)}, "tensor a does not have the size of its shape"),
        ({"a": {"dtype": "F32", "shape": [3]}}, "tensor a is malformed"),
        ({"a": {"dtype": "F32", "shape": ["3"], "data_offsets": [0, 12]}}, "tensor a is malformed"),
        ({"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, "tensor a has dtype I64"),
        ([1, 2], "its header is not JSON"),
    ],
)
def test_an_inconsistent_header_is_refused(tmp_path, header, message):
    write_raw(tmp_path, header, bytes(12))
    with pytest.raises(UserError, match=message):
        SafetensorsFolder(tmp_path)


def shard(folder, weight_map):
    """Writes x and y into two files, and an index that says `weight_map`."""
    for number, name in enumerate(("x", "y"), start=1):
        file = folder / f"model-0000{number}-of-00002.safetensors"
        safetensors.numpy.save_file({name: TENSORS[name]}, file)
    index = {"metadata": {"total_size": 28}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_shards_are_read_together(tmp_path):
    shard(tmp_path, {"x": ONE, "y": TWO})
    tensors = SafetensorsFolder(tmp_path)
    np.testing.assert_array_equal(tensors["x"], TENSORS["x"])
    np.testing.assert_array_equal(tensors["y"], TENSORS["y"])
    assert tensors.layout.index_metadata == {"total_size": 28}


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"x": ONE, "y": ONE}, f"{ONE} lacks tensor y"),
        ({"x": ONE, "y": TWO, "w": TWO}, f"{TWO} lacks tensor w"),
        ({"x": ONE, "y": "model-00003-of-00002.safetensors"}, "model-00003-of-00002.safetensors is missing"),
    ],
)
def test_an_index_that_disagrees_with_its_files_is_refused(tmp_path, weight_map, message):
    shard(tmp_path, weight_map)
    with pytest.raises(UserError, match=message):
        SafetensorsFolder(tmp_path)


def test_a_tensor_that_the_index_does_not_list_is_refused(tmp_path):
    shard(tmp_path, {"x": ONE, "y": TWO})
    safetensors.numpy.save_file({"y": TENSORS["y"], "z": TENSORS["z"]}, tmp_path / TWO)
    with pytest.raises(UserError, match=r"holds tensor z, which .* does not list"):
        SafetensorsFolder(tmp_path)


def test_a_folder_without_safetensors_says_what_is_wanted(tmp_path):
    with pytest.raises(UserError, match=r"holds neither model\.safetensors nor"):
        SafetensorsFolder(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        SafetensorsFolder(tmp_path / "nowhere")
