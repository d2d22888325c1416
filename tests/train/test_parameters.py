"""Training adapters: what is trained, saved, resumed and written, by the loop of SFT on eight devices."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.checkpoint.manager import CheckpointManager
from phi4r.checkpoint.release import load_model, save_hf_folder
from phi4r.errors import UserError
from phi4r.metrics.writer import read_metrics
from phi4r.model.inputs import make_token_batch
from phi4r.model.lora import GROUPS, is_adapter_leaf
from phi4r.model.transformer import Transformer, init_params
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.train import sft
from phi4r.train.losses import make_sft_loss
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.parameters import LoraSettings, Parameters
from phi4r.train.setup import read_model_config, rows_to_mesh
from phi4r.train.sft import run_sft
from phi4r.train.state import abstract_state, create_state, state_shardings
from phi4r.train.step import make_update_fn

CLOCK = ("step_s", "tokens_per_s", "compiles")  # what two equal runs may differ in


class Killed(BaseException):
    """Stands for a process that dies: nothing in the code base catches it."""


@pytest.fixture(scope="module")
def lora_settings(settings):
    """Four steps that train adapters of rank 4."""
    return dataclasses.replace(
        settings,
        num_steps=4,
        save_every=2,
        lora=LoraSettings(rank=4, alpha=8.0),
        optimizer=OptimizerSettings(learning_rate=1e-2, warmup_steps=1),
        export_dtype="float32",
    )


@pytest.fixture(scope="module")
def whole(lora_settings, tmp_path_factory):
    """The workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    run_sft(lora_settings, workdir)
    return workdir


def numbers(workdir):
    """The metrics of a run without what depends on the clock."""
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_metrics(workdir)]


def restore(settings, workdir):
    """The newest checkpoint of a run, and its parameters."""
    config, mesh = read_model_config(settings.init_from, settings.model), make_mesh(settings.mesh)
    parameters = Parameters(settings.init_from, config, mesh, settings.lora, seed=settings.seed)
    optimizer, _ = make_optimizer(settings.optimizer, num_steps=settings.num_steps)
    with CheckpointManager(workdir / "checkpoints", allow_changed=True) as manager:
        return manager.restore(abstract_state(parameters.abstract_trained(), optimizer))[0], parameters


def leaf_names(tree):
    return {jax.tree_util.keystr(path[-1:], simple=True) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


def test_the_loss_falls_and_the_checkpoint_holds_adapters_and_their_moments_alone(lora_settings, whole):
    losses = [line["loss"] for line in read_metrics(whole)]
    assert losses[-1] < losses[0] - 0.1
    state, parameters = restore(lora_settings, whole)  # a leaf that is missing or left over would be refused
    assert all(is_adapter_leaf(name) for name in leaf_names(state.params))
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert jax.tree.structure(state.params) == jax.tree.structure(parameters.abstract_trained())


def test_a_killed_and_resumed_run_is_the_uninterrupted_run_bit_for_bit(lora_settings, whole, tmp_path, monkeypatch):
    rows_to_mesh, count = sft.host_rows_to_mesh, []

    def dying(batch, mesh):
        count.append(1)
        if len(count) == 4:
            raise Killed
        return rows_to_mesh(batch, mesh)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(sft, "host_rows_to_mesh", dying)
        run_sft(lora_settings, tmp_path)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    run_sft(lora_settings, tmp_path)
    assert numbers(tmp_path) == numbers(whole)
    for name in ("params", "hf"):
        ours, theirs = (jax.device_get(load_model(folder / name).params) for folder in (tmp_path, whole))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    weights = [folder / "adapter" / "adapter_model.safetensors" for folder in (tmp_path, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_the_results_are_the_base_plus_the_adapters(lora_settings, whole):
    state, _ = restore(lora_settings, whole)
    adapter = jax.device_get(state.params)["layers"]
    expected = jax.tree.map(np.array, load_model(lora_settings.init_from).params)
    for target, group in GROUPS.items():
        a = adapter[group.module][f"{target}_lora_a"]
        for name in group.outputs:
            b = adapter[group.module][f"{name}_lora_b"]
            expected["layers"][group.module][name] += 2.0 * np.stack(
                [np.tensordot(x, y, axes=1) for x, y in zip(a, b, strict=True)]
            )
    for name in ("params", "hf"):
        merged = jax.device_get(load_model(whole / name).params)
        jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-6), merged, expected)
    values = json.loads((whole / "adapter" / "adapter_config.json").read_text())
    assert values["base_model_name_or_path"] == lora_settings.init_from


def test_another_base_is_refused_on_a_resume(lora_settings, whole, tmp_path):
    config, params, _ = load_model(lora_settings.init_from)
    other = init_params(config, jax.random.key(99))
    assert jax.tree.map(jnp.shape, other) == jax.tree.map(jnp.shape, params)
    save_hf_folder(tmp_path / "other", other, config=config, source_folder=lora_settings.init_from)
    with pytest.raises(UserError, match="made with init_from_digest="):
        run_sft(dataclasses.replace(lora_settings, init_from=str(tmp_path / "other")), whole)
    with pytest.raises(UserError, match=r"made with (model\.)?lora\.alpha=8.0, this run has 16.0"):
        run_sft(dataclasses.replace(lora_settings, lora=LoraSettings(rank=4, alpha=16.0)), whole)


def test_a_quantized_base_trains_and_resumes(lora_settings, whole, tmp_path):
    lora = dataclasses.replace(lora_settings.lora, quantize_base="nf4")
    settings = dataclasses.replace(lora_settings, lora=lora, mesh=MeshSettings(data=8))
    run_sft(settings, tmp_path)
    for line, other in zip(read_metrics(tmp_path), read_metrics(whole), strict=True):
        assert line["loss"] != other["loss"]
        assert line["loss"] == pytest.approx(other["loss"], abs=0.1)


def test_the_base_is_an_argument_of_the_update_once_and_is_left_alone(lora_settings):
    """Argument bytes are those of base, adapters, moments and batch: nothing is baked in, copied or donated."""
    config = read_model_config(lora_settings.init_from, lora_settings.model)
    mesh = make_mesh(MeshSettings(fsdp=1), jax.devices()[:1])
    parameters = Parameters(lora_settings.init_from, config, mesh, lora_settings.lora, seed=0)
    optimizer, _ = make_optimizer(lora_settings.optimizer, num_steps=4)
    parameters.load_frozen()
    assert jax.tree.map(lambda x: (x.shape, x.dtype), parameters.frozen) == jax.tree.map(
        lambda x: (x.shape, x.dtype), parameters.abstract_frozen()
    )
    state = create_state(parameters.initial(), optimizer)
    loss_fn = make_sft_loss(Transformer(parameters.config), chunk_size=16)
    update_fn = make_update_fn(parameters.policy_loss(loss_fn), optimizer, state_shardings=state_shardings(state))
    tokens = np.ones((2, 16), np.int32)
    batch = rows_to_mesh(make_token_batch(tokens, tokens, tokens > 0), mesh)
    compiled = update_fn.lower(state, batch, *parameters.frozen).compile()
    expected = sum(leaf.nbytes for leaf in jax.tree.leaves((state, batch, parameters.frozen)))
    memory = compiled.memory_analysis()
    assert memory.argument_size_in_bytes == pytest.approx(expected, rel=0.002)
    trained = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert memory.output_size_in_bytes == pytest.approx(trained, rel=0.02)  # and a dozen scalars
    assert memory.alias_size_in_bytes == pytest.approx(trained, rel=0.02)
    before = jax.device_get(state.params)
    after, _ = update_fn(state, batch, *parameters.frozen)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(parameters.frozen))
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), before, jax.device_get(after.params))
    assert any(jax.tree.leaves(changed))
