import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.checkpoint.best import KeepBest
from phi4r.checkpoint.manager import CheckpointManager
from phi4r.checkpoint.release import load_model
from phi4r.data.pipeline import TrainData
from phi4r.errors import UserError
from phi4r.metrics.writer import read_metrics
from phi4r.model.transformer import Transformer
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.text.chat import load_chat
from phi4r.train import sft
from phi4r.train.guards import GuardSettings
from phi4r.train.losses import make_sft_loss
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.preemption import Preempted
from phi4r.train.setup import params_on_mesh, read_model_config
from phi4r.train.sft import run_sft
from phi4r.train.state import abstract_state

CLOCK = ("step_s", "tokens_per_s", "compiles")  # what two equal runs may differ in


class Killed(BaseException):
    """Stands for a process that dies: nothing in the code base catches it."""


def numbers(workdir):
    """The metrics of a run without what depends on the clock."""
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_metrics(workdir)]


def final_params(workdir):
    return jax.device_get(load_model(workdir / "params").params)


def watch_batches(monkeypatch, *, kill_at=None, tell_at=None, poisoned=()):
    """Returns a list that grows by one for every batch put on the mesh.

    At batch number `kill_at` the run dies, at `tell_at` it is told to stop, those in `poisoned` have a loss of nan.
    """
    rows_to_mesh, batches = sft.host_rows_to_mesh, []

    def watched(batch, mesh):
        batches.append(batch)
        if len(batches) == kill_at:
            raise Killed
        if len(batches) == tell_at:
            os.kill(os.getpid(), signal.SIGTERM)
        if len(batches) in poisoned:
            batch = batch.replace(loss_mask=np.full_like(batch.loss_mask, np.nan))
        return rows_to_mesh(batch, mesh)

    monkeypatch.setattr(sft, "host_rows_to_mesh", watched)
    return batches


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The workdir of an uninterrupted run of `settings`."""
    workdir = tmp_path_factory.mktemp("whole")
    run_sft(settings, workdir)
    return workdir


def test_a_killed_and_resumed_run_is_the_uninterrupted_run_bit_for_bit(settings, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        watch_batches(patch, kill_at=6)  # the checkpoint is of step 3; metrics of step 4 are already on disk
        run_sft(settings, tmp_path)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4]
    assert not (tmp_path / "params").exists()
    batches = watch_batches(monkeypatch)
    result = run_sft(settings, tmp_path)
    assert len(batches) == 3  # steps 4, 5 and 6: it resumed, and did not start anew
    assert numbers(tmp_path) == numbers(whole)
    jax.tree.map(np.testing.assert_array_equal, final_params(tmp_path), final_params(whole))
    # once more: nothing is left to do, and the result is still known
    assert run_sft(settings, tmp_path)["loss"] == result["loss"]
    assert len(batches) == 3


def test_a_run_that_is_told_to_stop_saves_and_goes_on_bit_for_bit(settings, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Preempted, match="saved after step 2; the same command again"):
        watch_batches(patch, tell_at=2)
        run_sft(settings, tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]
    assert not (tmp_path / "params").exists()
    batches = watch_batches(monkeypatch)
    run_sft(settings, tmp_path)
    assert len(batches) == 4
    assert numbers(tmp_path) == numbers(whole)
    jax.tree.map(np.testing.assert_array_equal, final_params(tmp_path), final_params(whole))


def test_a_run_resumed_on_another_mesh_is_the_same_to_rounding(settings, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        watch_batches(patch, kill_at=5)
        run_sft(settings, tmp_path)
    run_sft(dataclasses.replace(settings, mesh=MeshSettings(data=2, fsdp=2, tensor=2), num_microbatches=1), tmp_path)
    lines, expected = read_metrics(tmp_path), read_metrics(whole)
    assert [line["loss"] for line in lines[:3]] == [line["loss"] for line in expected[:3]]
    for line, other in zip(lines, expected, strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert line["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)


def test_a_skipped_step_is_as_if_its_batch_had_not_been(settings, tmp_path, monkeypatch):
    settings = dataclasses.replace(settings, optimizer=_quick())
    with monkeypatch.context() as patch:
        watch_batches(patch, poisoned=[3])
        run_sft(settings, tmp_path / "skipped")
    lines = read_metrics(tmp_path / "skipped")
    assert [line["skipped"] for line in lines] == [0, 0, 1, 1, 1, 1]
    assert [line["finite"] for line in lines] == [1, 1, 0, 1, 1, 1]
    batch = TrainData.batch
    monkeypatch.setattr(TrainData, "batch", lambda self, n: batch(self, n + (n >= 2)))
    run_sft(dataclasses.replace(settings, num_steps=5), tmp_path / "without")
    jax.tree.map(np.testing.assert_array_equal, final_params(tmp_path / "skipped"), final_params(tmp_path / "without"))


def test_a_run_killed_among_skipped_steps_resumes_bit_for_bit(settings, tmp_path, monkeypatch):
    settings = dataclasses.replace(settings, save_every=1, guards=GuardSettings(max_nonfinite_steps=2))
    with monkeypatch.context() as patch:
        watch_batches(patch, poisoned=[2, 4])
        run_sft(settings, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        watch_batches(patch, poisoned=[2, 4], kill_at=4)
        run_sft(settings, tmp_path / "killed")
    done = CheckpointManager(tmp_path / "killed" / "checkpoints").steps[-1]
    watch_batches(monkeypatch, poisoned=[4 - done])
    run_sft(settings, tmp_path / "killed")
    assert [repr(line) for line in numbers(tmp_path / "killed")] == [repr(line) for line in numbers(tmp_path / "whole")]
    jax.tree.map(np.testing.assert_array_equal, final_params(tmp_path / "killed"), final_params(tmp_path / "whole"))


def test_the_best_by_the_held_out_loss_is_saved_and_stays(settings, tmp_path, monkeypatch):
    losses = iter([5.0, 3.0, 4.0, 3.5, 6.0, 3.2])
    monkeypatch.setattr(sft, "_held_out", lambda *_: {"eval_loss": next(losses)})
    best = dataclasses.replace(
        settings, eval_data=settings.data, eval_every=1, save_every=4, keep=1, keep_best=KeepBest("eval_loss", "min")
    )
    run_sft(best, tmp_path)
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["2", "6", "best.json"]  # 1 and 4 were saved too
    assert json.loads((folder / "best.json").read_text()) == {"step": 2, "eval_loss": 3.0}


def test_a_metric_that_is_never_measured_cannot_choose_the_best(settings, tmp_path):
    bad = dataclasses.replace(settings, keep_best=KeepBest("eval_loss", "min"))
    with pytest.raises(
        UserError, match=r"keep_best.metric=eval_loss is not measured by this run .*: nothing\); set eval"
    ):
        run_sft(bad, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_step_compiles_once_and_the_loss_falls(whole):
    lines = read_metrics(whole)
    assert lines[0]["compiles"] > 0
    assert [line["compiles"] for line in lines[1:]] == [0] * 5
    losses = [line["loss"] for line in lines]
    assert losses[-1] < losses[0] - 0.3
    assert [line["learning_rate"] for line in lines[:3]] == pytest.approx([1.5e-3, 3e-3, 3e-3])


def test_another_mesh_trains_the_same_model(settings, whole, tmp_path):
    mesh = MeshSettings(data=2, fsdp=2, tensor=2)
    run_sft(dataclasses.replace(settings, mesh=mesh, num_microbatches=1), tmp_path)
    for line, other in zip(read_metrics(whole), read_metrics(tmp_path), strict=True):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-5)
        assert other["grad_norm"] == pytest.approx(line["grad_norm"], rel=1e-4)
    # Adam divides by the root of tiny second moments, so rounding shows most in parameters that hardly matter
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), final_params(tmp_path), final_params(whole))


def test_the_held_out_loss_is_that_of_the_final_parameters(settings, tmp_path):
    settings = dataclasses.replace(settings, eval_data=settings.data)
    run_sft(settings, tmp_path)
    first, evaluated = (line for line in read_metrics(tmp_path) if "eval_loss" in line)
    assert (first["step"], evaluated["step"]) == (3, 6)
    config, params, folder = load_model(tmp_path / "params")
    data = TrainData(settings.data, load_chat(folder), seed=settings.seed)
    loss_fn = jax.jit(make_sft_loss(Transformer(config), chunk_size=64))
    sums = [loss_fn(params, jax.tree.map(jnp.asarray, data.batch(i))) for i in range(settings.eval_batches)]
    weights = [float(s.weight) for s in sums]
    assert weights[0] != weights[1]  # so a mean of means would differ
    expected = sum(float(s.total) for s in sums) / sum(weights)
    assert evaluated["eval_loss"] == pytest.approx(expected, rel=1e-5)


def test_divergence_stops_the_run_and_leaves_only_finite_checkpoints(settings, tmp_path):
    optimizer = OptimizerSettings(learning_rate=1e12, warmup_steps=0, schedule="constant", clip_norm=None)
    settings = dataclasses.replace(settings, optimizer=optimizer, num_steps=20, save_every=1, keep=20)
    with pytest.raises(UserError, match=r"step [4-9] is not finite .* 3 in a row; .*learning_rate"):
        run_sft(settings, tmp_path)
    [saved] = (tmp_path / "nonfinite").iterdir()
    with np.load(saved) as batch:
        step = int(saved.stem.removeprefix("step"))
        expected = TrainData(settings.data, load_chat(settings.init_from), seed=settings.seed).batch(step - 1)
        np.testing.assert_array_equal(batch["tokens"], expected.tokens)
    mesh = make_mesh(settings.mesh)
    config = read_model_config(settings.init_from, settings.model)
    abstract = abstract_state(params_on_mesh(config, mesh), make_optimizer(optimizer, num_steps=20)[0])
    with CheckpointManager(tmp_path / "checkpoints", allow_changed=True) as manager:
        state, _ = manager.restore(abstract)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state.params))
    assert not (tmp_path / "params").exists()


def test_the_exported_folder_holds_the_final_parameters(settings, tmp_path):
    run_sft(dataclasses.replace(settings, num_steps=2, optimizer=_quick(), export_dtype="float32"), tmp_path)
    exported = load_model(tmp_path / "hf")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(exported.params), final_params(tmp_path))
    assert load_chat(tmp_path / "hf").system_message == "Think."


def test_a_resume_with_another_recipe_is_refused_unless_permitted(settings, tmp_path):
    settings = dataclasses.replace(settings, num_steps=2, optimizer=_quick())
    run_sft(settings, tmp_path)
    longer = dataclasses.replace(settings, num_steps=3)
    with pytest.raises(UserError, match="num_steps=2, this run has 3"):
        run_sft(longer, tmp_path)
    run_sft(dataclasses.replace(longer, allow_changed=True), tmp_path)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert any(
        (a != b).any()
        for a, b in zip(
            jax.tree.leaves(final_params(tmp_path)), jax.tree.leaves(load_model(settings.init_from).params), strict=True
        )
    )


def test_a_batch_that_does_not_divide_is_refused_before_weights_are_read(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(sft.Parameters, "initial", None)
    bad = dataclasses.replace(settings, data=dataclasses.replace(settings.data, global_batch=24))
    with pytest.raises(UserError, match=r"data.global_batch=24 .* multiple of 16"):
        run_sft(bad, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_examples_longer_than_the_model_allows_are_refused(settings, tmp_path, monkeypatch):
    short = read_model_config(settings.init_from, settings.model).replace(max_positions=10)
    monkeypatch.setattr(sft, "read_model_config", lambda *_: short)
    with pytest.raises(UserError, match=r"longest example has \d+ tokens, .* 10 positions"):
        run_sft(settings, tmp_path)


@pytest.mark.parametrize("name", ["num_steps", "num_microbatches", "save_every", "keep"])
def test_counts_below_one_are_refused(settings, name):
    with pytest.raises(UserError, match=f"{name}=0 must be at least 1"):
        dataclasses.replace(settings, **{name: 0})


def _quick():
    """An optimizer whose program does not depend on the length of the run, so it is compiled once for these tests."""
    return OptimizerSettings(learning_rate=1e-2, warmup_steps=0, schedule="constant")
