import json

import numpy as np
import pytest

from phi4r.checkpoint.shards import ShardLayout, TensorSpec, default_layout, dtype_named
from phi4r.errors import UserError

SPECS = {
    "b": TensorSpec((10,), np.dtype(np.float32)),  # 40 bytes
    "a": TensorSpec((5, 2), np.dtype(np.float32)),  # 40
    "c": TensorSpec((3,), np.dtype(np.float16)),  # 6
    "d": TensorSpec((100,), np.dtype(np.float32)),  # 400, more than a file
    "e": TensorSpec((1,), np.dtype(np.float32)),
}


def test_files_are_filled_in_order_and_a_large_tensor_has_its_own():
    layout = default_layout(SPECS, max_file_bytes=90)
    assert layout.files == {
        "model-00001-of-00003.safetensors": ("a", "b", "c"),
        "model-00002-of-00003.safetensors": ("d",),
        "model-00003-of-00003.safetensors": ("e",),
    }
    assert layout.index_metadata == {}


def test_one_file_needs_no_index():
    layout = default_layout(SPECS)
    assert layout.files == {"model.safetensors": ("a", "b", "d", "e", "c")}
    assert layout.index_metadata is None


def test_a_layout_survives_json():
    layout = default_layout(SPECS, max_file_bytes=90)
    assert ShardLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_a_dtype_that_parameters_do_not_have_is_refused_by_name():
    with pytest.raises(UserError, match=r"x\.y has dtype F8_E4M3"):
        dtype_named("F8_E4M3", "x.y")
