"""GRPO of adapters: the reference is the model without them, and there is one copy of it."""

import dataclasses

import jax
import numpy as np
import pytest

from phi4r.checkpoint.release import load_model
from phi4r.metrics.writer import read_metrics
from phi4r.model.config import ModelConfig
from phi4r.rl import train
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.rewards import RewardSettings
from phi4r.rl.train import GrpoRunSettings, run_grpo
from phi4r.sampling import SamplerSettings
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.train import parameters as parameters_module
from phi4r.train.optim import OptimizerSettings
from phi4r.train.parameters import LoraSettings, Parameters
from phi4r.train.setup import ModelOverrides, read_model_config
from phi4r.verifiers.verdict import judged

from .runs import CLOCK, Killed


def long_is_right(problem, text):
    """A judge of random text that gives groups a spread."""
    return judged("x", len(text) % 2 == 0)


@pytest.fixture(scope="module")
def settings(policy_folder) -> GrpoRunSettings:
    """Three steps of four problems with four responses each, on eight devices."""
    return GrpoRunSettings(
        init_from=str(policy_folder),
        task="chains:train?num=12&min_ops=2&max_ops=3",
        sampler=SamplerSettings(prompt_length=24, max_response=8),
        num_steps=3,
        problems_per_step=8,
        seed=5,
        model=ModelOverrides(dtype="float32", remat="none"),
        mesh=MeshSettings(fsdp=8),
        lora=LoraSettings(rank=2, alpha=4.0),
        reward=RewardSettings(
            max_length=8, positive_control_length=6, negative_control_length=4, think_missing=0.5, incomplete=-0.25
        ),
        grpo=GrpoSettings(group_size=4, kl_beta=0.1),
        optimizer=OptimizerSettings(learning_rate=3e-2, warmup_steps=0, schedule="constant", weight_decay=0.0),
        logprob_chunk=16,
        save_every=2,
    )


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The workdir of an uninterrupted run, and how often it loaded the model."""
    workdir, loads = tmp_path_factory.mktemp("whole"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters_module, "load_model", lambda *a, **k: loads.append(a) or load_model(*a, **k))
        run_grpo(settings, workdir, fallback=long_is_right)
    return workdir, len(loads)


def numbers(workdir):
    return [{k: repr(v) for k, v in line.items() if k not in CLOCK} for line in read_metrics(workdir)]


def test_the_policy_leaves_the_reference_which_was_loaded_once(whole):
    workdir, num_loads = whole
    assert num_loads == 1
    lines = read_metrics(workdir)
    assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert lines[-1]["kl"] > 1e-5


def test_the_sampler_draws_from_the_policy_that_is_trained(whole):
    for line in read_metrics(whole[0]):
        assert line["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert line["logprob_gap_max"] == pytest.approx(0.0, abs=1e-5)


def test_a_killed_and_resumed_run_is_the_uninterrupted_run_bit_for_bit(settings, whole, tmp_path, monkeypatch):
    save_rollout, saved = train.save_rollout, []

    def dying(path, *rollout, **gaps):
        saved.append(path)
        if len(saved) == 3:
            raise Killed
        save_rollout(path, *rollout, **gaps)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, "save_rollout", dying)
        run_grpo(settings, tmp_path, fallback=long_is_right)
    run_grpo(settings, tmp_path, fallback=long_is_right)
    assert numbers(tmp_path) == numbers(whole[0])
    ours, theirs = (jax.device_get(load_model(folder / "params").params) for folder in (tmp_path, whole[0]))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_without_adapters_the_reference_is_a_copy_of_what_was_loaded(settings, policy_folder):
    """In the dtype of activations, the same whether it is made at the start or loaded by a resumed run."""
    overrides = dataclasses.replace(settings.model, dtype="bfloat16")
    config, mesh = read_model_config(policy_folder, overrides), make_mesh(settings.mesh)
    parameters = Parameters(policy_folder, config, mesh, None, seed=0)
    initial = parameters.initial()
    copied, loaded = parameters.reference(initial), parameters.reference(None)
    assert isinstance(config, ModelConfig) and {leaf.dtype.name for leaf in jax.tree.leaves(copied)} == {"bfloat16"}
    jax.tree.map(np.testing.assert_array_equal, copied, loaded)
    assert jax.tree.map(lambda x: x.sharding, copied) == jax.tree.map(lambda x: x.sharding, initial)
