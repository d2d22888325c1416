import shutil

import jax
import jax.numpy as jnp
import pytest

from phi4r.checkpoint.release import load_hf_folder, load_params, save_params
from phi4r.errors import UserError
from phi4r.evals.provenance import model_provenance, weights_fingerprint
from phi4r.sharding import MeshSettings, make_mesh


@pytest.fixture
def folder(make_model, tmp_path):
    return shutil.copytree(make_model(), tmp_path / "copy")


def test_a_moved_or_converted_model_on_another_mesh_is_the_same(make_model, folder, tmp_path):
    config, params = load_hf_folder(make_model())
    expected = model_provenance(make_model(), params)
    _, sharded = load_hf_folder(folder, mesh=make_mesh(MeshSettings(fsdp=4, tensor=2)))
    assert model_provenance(folder, sharded) == expected
    save_params(tmp_path / "orbax", params, config=config, source_folder=folder)
    _, restored = load_params(tmp_path / "orbax")
    assert model_provenance(tmp_path / "orbax", restored) == expected


def test_one_changed_bit_or_two_swapped_rows_of_any_parameter_show():
    params = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.arange(4, dtype=jnp.bfloat16)}
    variants = [
        params,
        {**params, "a": params["a"].at[1, 2].set(5.0000005)},
        {**params, "a": params["a"][::-1]},
        {**params, "a": params["a"][:, ::-1]},
        {**params, "b": -params["b"]},
        {**params, "b": params["b"].astype(jnp.float32)},
        {"a": params["b"], "b": params["a"]},
    ]
    assert len({weights_fingerprint(variant) for variant in variants}) == len(variants)


def test_the_fingerprint_does_not_depend_on_how_parameters_are_sharded():
    params = {"a": jax.random.normal(jax.random.key(0), (8, 16))}
    mesh = make_mesh(MeshSettings(fsdp=4, tensor=2))
    spec = jax.sharding.PartitionSpec("fsdp", "kv")
    sharded = jax.device_put(params, jax.sharding.NamedSharding(mesh, spec))
    assert weights_fingerprint(sharded) == weights_fingerprint(params)


@pytest.mark.parametrize(
    ("name", "part"),
    [("chat_template.jinja", "chat_template"), ("tokenizer_config.json", "tokenizer"), ("config.json", "config")],
)
def test_a_changed_file_changes_its_hash_and_no_other(folder, name, part):
    params = {"a": jnp.zeros(1)}
    before = model_provenance(folder, params)
    text = (folder / name).read_text()
    (folder / name).write_text(text + " x" if name.endswith("jinja") else text.replace("{", '{"extra": 1,', 1))
    after = model_provenance(folder, params)
    assert {key for key in before if before[key] != after[key]} == {part}


def test_a_folder_without_a_tokenizer_is_refused(folder):
    (folder / "tokenizer.model").unlink()
    with pytest.raises(UserError, match="neither tokenizer"):
        model_provenance(folder, {})
