import json

import numpy as np
import pytest

from phi4r.checkpoint.host_state import join_arrays, split_arrays

TREE = {
    "position": 3,
    "rollout": {"tokens": np.arange(6, dtype=np.int32).reshape(2, 3), "texts": ["a", "b"], "dropped": None},
    "parts": [np.array([True, False]), {"reward": np.array([0.1], np.float32)}],
}


def test_arrays_leave_the_json_and_come_back_where_they_were():
    values, arrays = split_arrays(TREE)
    assert [array.dtype for array in arrays.values()] == [np.int32, bool, np.float32]
    joined = join_arrays(json.loads(json.dumps(values)), arrays)
    np.testing.assert_equal(joined, TREE)
    assert joined["rollout"]["tokens"].dtype == np.int32


def test_what_has_no_arrays_stays_as_it_is_and_numbers_of_numpy_become_json():
    assert split_arrays({"a": [1, {}], "b": "x"}) == ({"a": [1, {}], "b": "x"}, {})
    values, arrays = split_arrays({"reward": np.float64(0.25), "correct": np.bool_(True), "lengths": (1, 2)})
    assert json.loads(json.dumps(values)) == {"reward": 0.25, "correct": True, "lengths": [1, 2]}
    assert arrays == {}


def test_a_missing_array_is_named():
    values, arrays = split_arrays(TREE)
    del arrays["1"]
    with pytest.raises(LookupError, match="array 1 is missing"):
        join_arrays(values, arrays)
