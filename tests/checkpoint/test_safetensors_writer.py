import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from phi4r.checkpoint.safetensors_writer import SafetensorsWriter
from phi4r.checkpoint.shards import ShardLayout, TensorSpec, default_layout

TENSORS = {
    "layer.weight": np.arange(12, dtype=np.float32).reshape(4, 3),
    "norm": np.array([1.5, -2.0, 7.0], ml_dtypes.bfloat16),
}
SPECS = {name: TensorSpec(value.shape, value.dtype) for name, value in TENSORS.items()}


def test_a_file_equals_that_of_the_reference_library_whatever_the_order_of_pieces(tmp_path):
    safetensors.numpy.save_file(TENSORS, tmp_path / "reference", metadata={"format": "pt"})
    with SafetensorsWriter(tmp_path, default_layout(SPECS), SPECS) as writer:
        writer.write("norm", TENSORS["norm"])
        writer.write("layer.weight", TENSORS["layer.weight"][3:], first_row=3)
        writer.write("layer.weight", TENSORS["layer.weight"][:3])
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "reference").read_bytes()


def test_the_index_lists_every_tensor_and_the_total_size(tmp_path):
    layout = ShardLayout({"one": ("norm",), "two": ("layer.weight",)}, {}, {"total_size": 1, "note": "kept"})
    with SafetensorsWriter(tmp_path, layout, SPECS) as writer:
        for name, value in TENSORS.items():
            writer.write(name, value)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index == {
        "metadata": {"note": "kept", "total_size": 12 * 4 + 3 * 2},
        "weight_map": {"layer.weight": "two", "norm": "one"},
    }


def test_rows_that_were_never_written_are_an_error(tmp_path):
    with (
        pytest.raises(ValueError, match=r"layer\.weight"),
        SafetensorsWriter(tmp_path, default_layout(SPECS), SPECS) as writer,
    ):
        writer.write("norm", TENSORS["norm"])
        writer.write("layer.weight", TENSORS["layer.weight"][:3])


@pytest.mark.parametrize("first_row", [0, 3])
def test_rows_that_do_not_fit_are_an_error(tmp_path, first_row):
    rows = np.zeros((2, 3 if first_row else 4), np.float32)
    with (
        pytest.raises(ValueError, match="do not fit"),
        SafetensorsWriter(tmp_path, default_layout(SPECS), SPECS) as writer,
    ):
        writer.write("layer.weight", rows, first_row=first_row)
