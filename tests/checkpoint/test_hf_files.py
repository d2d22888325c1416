import json

import numpy as np
import pytest

from phi4r.checkpoint.hf_files import parse_config, read_json, write_config, write_json
from phi4r.errors import UserError
from phi4r.model.config import PHI4_REASONING
from phi4r.model.rope_scaling import RopeSettings

FLOAT32 = np.dtype("float32")
YARN = PHI4_REASONING.with_rope(RopeSettings("yarn", 2.0)).for_length(65536)


def carried_file(tmp_path, *, new_spelling):
    """config.json of the model before its context was extended, with fields of its own."""
    values = {**PHI4_REASONING.to_hf(), "torch_dtype": "float32", "eos_token_id": 100265}
    if new_spelling:
        del values["rope_scaling"]
        values["rope_parameters"] = {"rope_type": "default", "rope_theta": values.pop("rope_theta")}
    write_json(tmp_path / "config.json", values)
    return values


@pytest.mark.parametrize("new_spelling", [False, True])
def test_a_run_past_the_positions_of_its_model_says_so_in_config_json(tmp_path, new_spelling):
    before = carried_file(tmp_path, new_spelling=new_spelling)
    write_config(tmp_path, YARN, FLOAT32)
    after = read_json(tmp_path / "config.json")
    read = parse_config(after, tmp_path)
    assert (read.max_positions, read.longrope.attention_factor) == (65536, YARN.longrope.attention_factor)
    assert read.longrope.long_factor == YARN.longrope.long_factor
    assert after["eos_token_id"] == 100265
    unchanged = before.keys() - {"rope_scaling", "rope_parameters", "max_position_embeddings"}
    assert {key: after[key] for key in unchanged} == {key: before[key] for key in unchanged}


def test_more_positions_at_unchanged_angles_are_written_too(tmp_path):
    carried_file(tmp_path, new_spelling=False)
    write_config(tmp_path, PHI4_REASONING.with_rope(RopeSettings("none", 2.0)), FLOAT32)
    after = read_json(tmp_path / "config.json")
    assert (after["max_position_embeddings"], after["rope_scaling"]) == (65536, None)


def test_a_file_that_tells_the_truth_is_not_touched(tmp_path):
    text = json.dumps({**YARN.to_hf(), "torch_dtype": "float32"})  # spaced as nobody writes it here
    (tmp_path / "config.json").write_text(text)
    write_config(tmp_path, YARN, FLOAT32)
    assert (tmp_path / "config.json").read_text() == text


def test_another_theta_is_another_model(tmp_path):
    carried_file(tmp_path, new_spelling=False)
    with pytest.raises(UserError, match="rope_theta=1000"):
        write_config(tmp_path, YARN.replace(rope_theta=1000.0), FLOAT32)
