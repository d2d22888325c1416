import dataclasses
import shutil

import pytest

from phi4r.settings import first_difference
from phi4r.sharding import MeshSettings
from phi4r.train.identity import folder_digest
from phi4r.train.setup import read_model_config
from phi4r.train.sft import _identity


def identity(settings):
    return _identity(settings, read_model_config(settings.init_from, settings.model))


def test_what_only_decides_how_the_result_is_computed_may_change(settings):
    other = dataclasses.replace(
        settings,
        mesh=MeshSettings(data=2, fsdp=2, tensor=2),
        num_microbatches=1,
        logprob_chunk=8,
        save_every=7,
        model=dataclasses.replace(settings.model, remat="full", attention="dense"),
        data=dataclasses.replace(settings.data, num_threads=3),
    )
    assert identity(other) == identity(settings)


@pytest.mark.parametrize(
    ("section", "change", "name"),
    [
        ("model", {"dtype": "bfloat16"}, "model.dtype"),
        ("model", {"param_dtype": "bfloat16"}, "model.param_dtype"),
        ("optimizer", {"b2": 0.99}, "optimizer.b2"),
        ("data", {"row_length": 128}, "data.row_length"),
    ],
)
def test_what_decides_the_result_is_compared(settings, section, change, name):
    other = dataclasses.replace(settings, **{section: dataclasses.replace(getattr(settings, section), **change)})
    assert first_difference(identity(settings), identity(other))[0] == name


def test_a_model_is_known_by_its_files_and_not_by_its_place(base_folder, tmp_path):
    moved = shutil.copytree(base_folder, tmp_path / "moved")
    assert folder_digest(moved) == folder_digest(base_folder)
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert folder_digest(moved) != folder_digest(base_folder)
    shutil.copy(base_folder / "model.safetensors", weights)
    assert folder_digest(moved) == folder_digest(base_folder)
    (moved / "chat_template.jinja").unlink(missing_ok=True)
    (moved / "new.json").write_text("{}")
    assert folder_digest(moved) != folder_digest(base_folder)
