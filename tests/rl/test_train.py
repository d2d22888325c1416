import dataclasses

import jax
import numpy as np
import pytest

from configs.grpo_phi4_reasoning_plus import get_config
from phi4r.checkpoint.release import load_model
from phi4r.errors import UserError
from phi4r.evals.specs import load_task
from phi4r.metrics.writer import read_metrics
from phi4r.rl import train
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.problems import ProblemSet
from phi4r.rl.records import StoredRollout, rollout_files
from phi4r.rl.rewards import RewardSettings
from phi4r.rl.train import GrpoRunSettings, run_grpo
from phi4r.sampling import SamplerSettings
from phi4r.settings import build
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.train.optim import OptimizerSettings
from phi4r.train.parameters import Parameters
from phi4r.train.setup import ModelOverrides

from .runs import CLOCK, Killed, coin


@pytest.fixture(scope="session")
def settings(policy_folder) -> GrpoRunSettings:
    """Four steps of eight problems with four responses each, on eight devices; the epoch ends inside step 2."""
    return GrpoRunSettings(
        init_from=str(policy_folder),
        task="chains:train?num=12&min_ops=2&max_ops=3",
        sampler=SamplerSettings(prompt_length=24, max_response=8),
        num_steps=4,
        problems_per_step=8,
        seed=5,
        model=ModelOverrides(dtype="float32", remat="none"),
        mesh=MeshSettings(fsdp=8),
        reward=RewardSettings(
            max_length=8, positive_control_length=6, negative_control_length=4, think_missing=0.5, incomplete=-0.25
        ),
        grpo=GrpoSettings(group_size=4, kl_beta=0.1, entropy_gamma=0.01),
        optimizer=OptimizerSettings(learning_rate=1e-2, warmup_steps=0, schedule="constant", weight_decay=0.0),
        num_microbatches=2,
        logprob_chunk=16,
        save_every=2,
    )


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The workdir of an uninterrupted run of `settings`."""
    workdir = tmp_path_factory.mktemp("whole")
    run_grpo(settings, workdir, fallback=coin)
    return workdir


def numbers(workdir):
    """The metrics of a run without what depends on the clock."""
    return [{k: repr(v) for k, v in line.items() if k not in CLOCK} for line in read_metrics(workdir)]


def rollouts(workdir):
    """Every record of every rollout, by file name, without what depends on the clock."""
    return {
        path.name: [{k: v for k, v in row.items() if k not in CLOCK} for row in StoredRollout(path)]
        for path in rollout_files(workdir).values()
    }


def final_params(workdir):
    return jax.device_get(load_model(workdir / "params").params)


def watch_rollouts(monkeypatch, *, kill_at=None):
    """Returns a list that grows by one for every rollout saved; before number `kill_at` the run dies."""
    save_rollout, saved = train.save_rollout, []

    def watched(path, *rollout, **gaps):
        saved.append(path.name)
        if len(saved) == kill_at:
            raise Killed
        save_rollout(path, *rollout, **gaps)

    monkeypatch.setattr(train, "save_rollout", watched)
    return saved


def test_a_killed_and_resumed_run_is_the_uninterrupted_run_bit_for_bit(settings, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        watch_rollouts(patch, kill_at=4)  # the checkpoint is of step 2; step 3 was trained and written
        run_grpo(settings, tmp_path, fallback=coin)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert not (tmp_path / "params").exists()
    saved = watch_rollouts(monkeypatch)
    result = run_grpo(settings, tmp_path, fallback=coin)
    assert saved == ["000003.arrayrecord", "000004.arrayrecord"]  # it resumed, and did not start anew
    assert numbers(tmp_path) == numbers(whole)
    assert rollouts(tmp_path) == rollouts(whole)
    jax.tree.map(np.testing.assert_array_equal, final_params(tmp_path), final_params(whole))
    # once more: nothing is left to do, and the result is still known
    assert run_grpo(settings, tmp_path, fallback=coin)["loss"] == result["loss"]
    assert len(saved) == 2


def test_a_run_resumed_on_another_mesh_samples_the_same_and_is_the_same_to_rounding(
    settings, whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        watch_rollouts(patch, kill_at=4)
        run_grpo(settings, tmp_path, fallback=coin)
    mesh = MeshSettings(data=2, fsdp=2, tensor=2)
    run_grpo(dataclasses.replace(settings, mesh=mesh, num_microbatches=1), tmp_path, fallback=coin)
    tokens = [[[row["tokens"] for row in rows] for rows in rollouts(run).values()] for run in (tmp_path, whole)]
    assert tokens[0] == tokens[1]
    lines, expected = read_metrics(tmp_path), read_metrics(whole)
    assert [line["loss"] for line in lines[:2]] == [line["loss"] for line in expected[:2]]
    for line, other in zip(lines, expected, strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-6, abs=1e-6)  # it lies around zero
        assert line["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-5)


def test_problems_come_in_the_order_of_the_seed_with_a_group_each(settings, whole):
    problem_set = ProblemSet(load_task(settings.task).problems, seed=settings.seed)
    for step, rows in enumerate(rows for _, rows in sorted(rollouts(whole).items())):
        expected = [problem_set[place].id for place in range(8 * step, 8 * step + 8)]
        assert [(row["problem"], row["sample"]) for row in rows] == [(i, g) for i in expected for g in range(4)]


def test_a_problem_that_comes_twice_is_answered_anew(whole):
    texts = {}
    for rows in rollouts(whole).values():
        for start in range(0, len(rows), 4):
            texts.setdefault(rows[start]["problem"], []).append([row["text"] for row in rows[start : start + 4]])
    repeated = [groups for groups in texts.values() if len(groups) > 1]
    assert repeated and all(groups[0] != groups[1] for groups in repeated)


def test_the_first_step_is_on_policy(whole):
    first = read_metrics(whole)[0]
    assert first["ratio"] == pytest.approx(1.0, abs=1e-5)
    assert first["ratio_max"] == pytest.approx(1.0, abs=1e-5)
    assert first["ess"] == pytest.approx(1.0, abs=1e-5)
    assert first["logprob_gap_max"] == pytest.approx(0.0, abs=1e-5)
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert (first["clip_low"], first["clip_high"]) == (0.0, 0.0)
    assert first["grad_norm"] > 1e-2


def test_later_steps_are_on_policy_too_but_away_from_the_reference(whole):
    # One update a rollout: the policy that samples is the one that is updated; the reference stays behind.
    for line in read_metrics(whole)[1:]:
        assert line["logprob_gap_max"] == pytest.approx(0.0, abs=1e-5)
        assert line["kl"] > 1e-5


@pytest.fixture(scope="module")
def several(settings):
    """Two updates on a rollout, packed three to a row, with everything that is off in the paper's objective."""
    grpo = dataclasses.replace(
        settings.grpo,
        updates_per_rollout=2,
        old_logprobs="trainer",
        importance_cap=2.0,
        sequence_mask=1.5,
        overlong="filter",
        kl_beta=0.0,
    )
    return dataclasses.replace(settings, grpo=grpo, num_steps=3, save_every=1, row_length=100, save_logprob_gaps=True)


def test_several_updates_on_a_rollout_start_on_policy_and_resume_bit_for_bit(several, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(Parameters, "reference", None)  # without a penalty nobody asks for it
        run_grpo(several, whole, fallback=coin)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        watch_rollouts(patch, kill_at=3)
        run_grpo(several, killed, fallback=coin)
    run_grpo(several, killed, fallback=coin)
    assert numbers(killed) == numbers(whole)
    jax.tree.map(np.testing.assert_array_equal, final_params(killed), final_params(whole))
    lines = read_metrics(whole)
    for line in lines:
        assert line["logprob_gap_max"] < 1e-5  # before the updates
        assert line["ratio_max"] > 1.0001  # after the first of them
        assert "kl" not in line
    assert [line["compiles"] for line in lines[1:]] == [0, 0]
    for row in rollouts(whole)["000002.arrayrecord"]:
        assert len(row["logprob_gaps"]) == len(row["tokens"])
        assert max(map(abs, row["logprob_gaps"])) < 1e-5


def test_a_sampler_that_computes_another_policy_stops_the_run_before_anything_is_saved(settings, tmp_path):
    grpo = dataclasses.replace(settings.grpo, max_logprob_gap=1e-12)  # less than float32 can keep
    with pytest.raises(UserError, match=r"step 1: .* differ by .*e-\d+ nats a token .* grpo.max_logprob_gap=1e-12"):
        run_grpo(dataclasses.replace(settings, grpo=grpo, save_every=1), tmp_path, fallback=coin)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def test_nothing_compiles_after_the_first_step(whole):
    lines = read_metrics(whole)
    assert lines[0]["compiles"] > 0
    assert [line["compiles"] for line in lines[1:]] == [0, 0, 0]


def test_the_policy_learns_what_is_rewarded(settings, tmp_path):
    # Ending a response pays, whatever it says; cut-off ones are punished.
    reward = dataclasses.replace(settings.reward, think_missing=1.0, incomplete_and_think_missing=-1.0)
    longer = dataclasses.replace(settings, num_steps=12, save_every=12, save_rollouts_every=0, reward=reward)
    run_grpo(longer, tmp_path)
    lines = read_metrics(tmp_path)
    assert np.mean([line["reward"] for line in lines[-3:]]) > lines[0]["reward"] + 0.3
    assert lines[-1]["clipped_share"] < lines[0]["clipped_share"]
    assert not (tmp_path / "rollouts").exists()


def test_one_device_starts_like_eight(settings, whole, tmp_path, monkeypatch):
    alone = make_mesh(MeshSettings(), jax.devices()[:1])
    monkeypatch.setattr(train, "make_mesh", lambda *_, **__: alone)
    run_grpo(dataclasses.replace(settings, num_steps=1, num_microbatches=1), tmp_path, fallback=coin)
    rows, expected = (rollouts(workdir)["000001.arrayrecord"] for workdir in (tmp_path, whole))
    assert [row["tokens"] for row in rows] == [row["tokens"] for row in expected]
    line, other = read_metrics(tmp_path)[0], read_metrics(whole)[0]
    for name in ("loss", "entropy", "reward", "grad_norm"):
        assert line[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6), name


# What is refused, before anything is written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row_length": 31}, r"row_length=31 is less than .* = 32 tokens"),
        ({"init_from": "nowhere"}, "nowhere/config.json is missing"),
        ({"task": "riddles:"}, "unknown task 'riddles:'"),
        ({"sampler": SamplerSettings(prompt_length=5, max_response=8)}, r"has a prompt of \d+ tokens, .*length=5"),
        ({"sampler": SamplerSettings(prompt_length=60, max_response=8)}, r"= 68 tokens, .* made for 64 positions"),
    ],
)
def test_a_run_that_cannot_work_is_refused_before_it_starts(settings, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run_grpo(dataclasses.replace(settings, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_resume_with_another_recipe_is_refused(settings, whole):
    other = dataclasses.replace(settings, grpo=dataclasses.replace(settings.grpo, kl_beta=0.2))
    with pytest.raises(UserError, match="kl_beta"):
        run_grpo(other, whole, fallback=coin)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": 0}, "num_steps=0 must be at least 1"),
        ({"sampler": SamplerSettings(24, 9)}, "reward.max_length=8 must equal sampler.max_response=9"),
        ({"grpo": GrpoSettings(updates_per_rollout=3)}, "problems_per_step=8 do not divide into .*rollout=3 updates"),
    ],
)
def test_settings_without_sense_are_refused(settings, changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(settings, **changes)


# The config


def settings_of(size) -> GrpoRunSettings:
    sections = get_config(size).to_dict()
    assert sections.pop("experiment") == "grpo"
    return build(GrpoRunSettings, sections, where="config")


def test_the_config_is_section_4_of_the_paper():
    settings = settings_of("paper")
    assert (settings.num_steps, settings.problems_per_step, settings.grpo.group_size) == (90, 64, 8)
    assert (settings.sampler.prompt_length, settings.sampler.max_response) == (1024, 31744)
    assert (settings.grpo.kl_beta, settings.grpo.entropy_gamma) == (0.001, 0.001)
    assert (settings.optimizer.learning_rate, settings.optimizer.warmup_steps) == (5e-8, 10)
    assert settings.optimizer.weight_decay == 0.0
    assert settings.reward == RewardSettings()


def test_the_tiny_config_runs_end_to_end(policy_folder, tmp_path):
    settings = dataclasses.replace(settings_of("tiny"), init_from=str(policy_folder), num_steps=2)
    settings = dataclasses.replace(settings, optimizer=dataclasses.replace(settings.optimizer, warmup_steps=1))
    metrics = run_grpo(settings, tmp_path)
    assert metrics["finite"] == 1.0 and metrics["length"] > 1
    assert (tmp_path / "hf" / "model.safetensors").exists()
