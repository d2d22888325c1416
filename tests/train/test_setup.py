import jax
import numpy as np
import pytest

from phi4r.checkpoint.release import load_model, save_hf_folder, save_params
from phi4r.errors import UserError
from phi4r.model.config import PHI4_REASONING
from phi4r.model.rope_scaling import RopeSettings
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.setup import ModelOverrides, check_rows, host_part, params_on_mesh, read_model_config, rows_to_mesh
from phi4r.train.state import abstract_state


@pytest.fixture
def mesh():
    return make_mesh(MeshSettings(data=2, fsdp=2, tensor=2))


def test_rows_that_do_not_spread_over_the_mesh_are_refused_in_one_line(mesh):
    check_rows(mesh, 24, 7, num_microbatches=3, where="data.global_batch")
    with pytest.raises(
        UserError, match=r"data.global_batch=18 rows .* 3 micro-batches over 4 devices .* multiple of 12"
    ):
        check_rows(mesh, 18, 7, num_microbatches=3, where="data.global_batch")


def test_a_row_that_does_not_divide_into_two_parts_for_each_context_device_is_refused():
    mesh = make_mesh(MeshSettings(fsdp=2, context=4))
    check_rows(mesh, 2, 24, where="data.global_batch")
    with pytest.raises(UserError, match=r"rows of 28 tokens .* context=4 .* multiple of 8"):
        check_rows(mesh, 2, 28, where="data.global_batch")


def test_one_host_holds_all_rows(mesh):
    assert host_part(mesh, 8) == (0, 1)


def test_rows_are_spread_over_data_and_fsdp(mesh):
    rows = np.arange(16, dtype=np.int32).reshape(8, 2)
    (spread,) = rows_to_mesh([rows], mesh)
    np.testing.assert_array_equal(spread, rows)
    assert {shard.data.shape for shard in spread.addressable_shards} == {(2, 2)}


def test_overrides_change_numerics_and_nothing_else(base_folder):
    plain = read_model_config(base_folder, ModelOverrides(dtype="float32", remat="none"))
    config = read_model_config(base_folder, ModelOverrides(dtype="bfloat16", remat="full"))
    assert (config.dtype, config.param_dtype, config.remat) == ("bfloat16", "float32", "full")
    assert config.replace(dtype="float32", remat="none") == plain


def test_rope_takes_a_model_past_its_positions(base_folder):
    plain = read_model_config(base_folder, ModelOverrides())
    scaled = read_model_config(base_folder, ModelOverrides(rope=RopeSettings("linear", 4.0)))
    assert scaled.max_positions == 4 * plain.max_positions
    assert scaled.longrope.long_factor == (4.0,) * (plain.rotary_dim // 2)
    assert scaled.replace(longrope=None, max_positions=plain.max_positions) == plain


def test_a_model_that_was_trained_past_its_positions_leaves_with_its_angles(base_folder, tmp_path):
    config = read_model_config(base_folder, ModelOverrides(rope=RopeSettings("yarn", 2.0))).for_length(300)
    params = load_model(base_folder, config=config).params
    save_params(tmp_path / "params", params, config=config, source_folder=base_folder)
    save_hf_folder(tmp_path / "hf", params, config=config, source_folder=tmp_path / "params")
    for folder in ("params", "hf"):
        assert read_model_config(tmp_path / folder, ModelOverrides()).for_length(300) == config


def test_a_folder_without_a_model_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"config.json is missing"):
        read_model_config(tmp_path, ModelOverrides())


def test_the_state_of_phi4_takes_an_eighth_of_its_bytes_on_each_of_eight_devices():
    """14.66e9 parameters * (4 + 4 + 4) bytes = 163.8 GiB in all; 20.5 GiB on each device, moments included."""
    mesh = make_mesh(MeshSettings(fsdp=8))
    optimizer, _ = make_optimizer(OptimizerSettings(), num_steps=16_000)
    config = PHI4_REASONING.replace(param_dtype="float32")
    state = abstract_state(params_on_mesh(config, mesh), optimizer)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == config.num_params
    per_device = sum(
        np.prod(leaf.sharding.shard_shape(leaf.shape), dtype=np.int64) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )
    assert per_device / 2**30 == pytest.approx(14.66e9 * 12 / 8 / 2**30, rel=2e-3)
