"""Runs that sample one step ahead: whose policy each rollout is of, and that nothing that stops a run changes it."""

import concurrent.futures
import dataclasses
import os
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from phi4r.checkpoint.release import load_model
from phi4r.errors import UserError
from phi4r.evals.specs import load_task
from phi4r.metrics.writer import read_metrics
from phi4r.rl import train
from phi4r.rl.curriculum import Curriculum, CurriculumSettings
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.judging import Judge
from phi4r.rl.pipeline import PipelinedRollouts, check_devices
from phi4r.rl.problems import ProblemQueue, ProblemSet
from phi4r.rl.records import StoredRollout, rollout_files
from phi4r.rl.reward_parts import RewardPart
from phi4r.rl.rewards import RewardSettings
from phi4r.rl.rollout import RolloutEngine
from phi4r.rl.train import GrpoRunSettings, run_grpo
from phi4r.sampling import Sampler, SamplerSettings
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.text.chat import load_chat
from phi4r.train.optim import OptimizerSettings
from phi4r.train.preemption import Preempted
from phi4r.train.setup import ModelOverrides, read_model_config
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.verdict import judged

from .runs import CLOCK, Killed, coin

PIPELINE_CLOCK = (*CLOCK, "wait_s")
STEPS = 4


@pytest.fixture(scope="module")
def settings(policy_folder) -> GrpoRunSettings:
    """Four steps of eight problems, two responses each, in which every step depends on the answers of those before."""
    return GrpoRunSettings(
        init_from=str(policy_folder),
        task="chains:train?num=12&min_ops=2&max_ops=3",
        sampler=SamplerSettings(prompt_length=24, max_response=8),
        num_steps=STEPS,
        problems_per_step=8,
        max_refills=1,
        pipeline=True,
        curriculum=CurriculumSettings(low=0.2, high=0.9, outside_share=0.5),
        seed=5,
        model=ModelOverrides(dtype="float32", remat="none"),
        reward=RewardSettings(
            parts=(RewardPart("correct", 1.0), RewardPart("format", 0.25)),
            max_length=8,
            positive_control_length=6,
            negative_control_length=4,
        ),
        grpo=GrpoSettings(group_size=2, kl_beta=0.0, max_logprob_gap=1e-4),
        optimizer=OptimizerSettings(learning_rate=3e-2, warmup_steps=0, schedule="constant", weight_decay=0.0),
        logprob_chunk=16,
        save_every=2,
    )


@pytest.fixture(scope="module")
def alone():
    """The mesh of one device."""
    return make_mesh(MeshSettings(), jax.devices()[:1])


@pytest.fixture
def one_device(alone, monkeypatch):
    monkeypatch.setattr(train, "make_mesh", lambda *_, **__: alone)


@pytest.fixture(scope="module")
def whole(settings, alone, tmp_path_factory):
    """The workdir of an uninterrupted run of `settings`, with a checkpoint of every step."""
    workdir = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_mesh", lambda *_, **__: alone)
        run_grpo(dataclasses.replace(settings, save_every=1, keep=STEPS), workdir, fallback=coin)
    return workdir


def rollouts(workdir):
    """Every record of every rollout, by step, without what depends on the clock."""
    return {
        step: [{k: v for k, v in row.items() if k not in PIPELINE_CLOCK} for row in StoredRollout(path)]
        for step, path in rollout_files(workdir).items()
    }


def assert_same_run(ours, theirs):
    """Compares all that two equal runs have in common, bit for bit."""
    lines = [
        [{k: repr(v) for k, v in line.items() if k not in PIPELINE_CLOCK} for line in read_metrics(workdir)]
        for workdir in (ours, theirs)
    ]
    assert lines[0] == lines[1]
    assert rollouts(ours) == rollouts(theirs)
    params = [jax.device_get(load_model(workdir / "params").params) for workdir in (ours, theirs)]
    jax.tree.map(np.testing.assert_array_equal, *params)


def before_saving(monkeypatch, name, action):
    """Calls `action` before the rollout file `name` is written, which is after the updates of that step."""
    save_rollout = train.save_rollout

    def watched(path, *rollout, **gaps):
        if path.name == name:
            action()
        save_rollout(path, *rollout, **gaps)

    monkeypatch.setattr(train, "save_rollout", watched)


# Whose policy


def params_after(settings, workdir, step):
    """The parameters after the update of a step, from its checkpoint; those at the start for step 0."""
    if step == 0:
        return load_model(settings.init_from).params
    folder = workdir / "checkpoints" / str(step) / "state"
    return ocp.StandardCheckpointHandler().restore(folder, args=ocp.args.StandardRestore())["params"]


def queue_of(settings, task):
    curriculum = Curriculum(settings.curriculum, seed=settings.seed)
    return ProblemQueue(ProblemSet(task.problems, seed=settings.seed), curriculum)


def test_each_rollout_is_what_the_plain_engine_samples_with_the_policy_before_the_update_before(settings, whole):
    config = read_model_config(settings.init_from, settings.model).for_length(settings.longest)
    chat, task = load_chat(settings.init_from), load_task(settings.task)
    tokenizer = chat.tokenizer
    sampler = Sampler(config, settings.sampler, eos_ids=[tokenizer.eos_id], pad_id=tokenizer.pad_id)
    problems = queue_of(settings, task)
    stored = rollouts(whole)
    with VerifierPool(num_workers=1) as pool:
        judge = Judge(chat, task, pool, settings.reward, coin)
        engine = RolloutEngine(sampler, chat, judge, settings.grpo, settings.problems_per_step, max_refills=1)
        for step in range(1, STEPS + 1):
            key = jax.random.fold_in(jax.random.key(settings.seed), step)
            policy = params_after(settings, whole, max(step - 2, 0))
            before = problems.state()
            expected = engine(sampler.unroll(policy), problems, key)
            ids = [problem.id for problem in expected.problems for _ in range(2)]
            rows = stored[step][:16]  # dropped groups follow
            assert [row["problem"] for row in rows] == ids
            assert [row["text"] for row in rows] == expected.texts
            assert [row["advantage"] for row in rows] == pytest.approx(expected.advantages.tolist(), abs=1e-6)
            drawn = [expected.samples.logprobs[i][expected.samples.response_mask[i]] for i in range(16)]
            for row, logprobs in zip(rows, drawn, strict=True):
                np.testing.assert_allclose(row["logprobs"], logprobs, atol=1e-5)
            if step > 1:  # the policy that is trained would have given the same tokens other log-probabilities
                problems_again = queue_of(settings, task)
                problems_again.resume(before)
                newer = engine(sampler.unroll(params_after(settings, whole, step - 1)), problems_again, key)
                assert np.abs(newer.samples.logprobs - expected.samples.logprobs).max() > 1e-3


def test_the_first_rollout_is_on_policy_and_the_ratio_corrects_for_the_age_of_the_others(whole):
    lines = read_metrics(whole)
    assert [line["policy_lag"] for line in lines] == [0.0, 1.0, 1.0, 1.0]
    assert lines[0]["logprob_gap_max"] < 1e-5 and lines[0]["ess"] == pytest.approx(1.0, abs=1e-5)
    for line in lines[1:]:  # far beyond max_logprob_gap, and the run went on
        assert line["logprob_gap"] > 1e-2 and line["ess"] < 0.9999
        assert line["ratio_max"] > 1.01


def test_waiting_is_no_longer_than_what_was_waited_for_and_nothing_compiles_later(whole):
    lines = read_metrics(whole)
    assert lines[0]["wait_s"] >= lines[0]["sample_s"]  # nothing runs beside the first
    assert lines[0]["compiles"] > 0 and [line["compiles"] for line in lines[1:]] == [0, 0, 0]


def test_eight_devices_sample_ahead_what_one_does(settings, alone, tmp_path, monkeypatch):
    settings = dataclasses.replace(settings, max_refills=0, num_steps=3, save_every=3)
    run_grpo(settings, tmp_path / "eight", fallback=coin)
    monkeypatch.setattr(train, "make_mesh", lambda *_, **__: alone)
    run_grpo(settings, tmp_path / "one", fallback=coin)
    tokens = [
        [[row["tokens"] for row in rows] for rows in rollouts(tmp_path / run).values()] for run in ("one", "eight")
    ]
    assert tokens[0] == tokens[1]
    lines = read_metrics(tmp_path / "eight")
    assert [line["policy_lag"] for line in lines] == [0.0, 1.0, 1.0]
    assert [line["compiles"] for line in lines[1:]] == [0, 0]


# Interrupted runs are the uninterrupted one


def test_a_killed_and_resumed_run_is_the_uninterrupted_run_bit_for_bit(
    settings, one_device, whole, tmp_path, monkeypatch
):
    assert read_metrics(whole)[2]["dropped_groups"] > 0  # the rollout in the checkpoint has all that one can have
    with monkeypatch.context() as patch, pytest.raises(Killed):
        before_saving(patch, "000003.arrayrecord", lambda: killed("rollout 4 is ahead"))
        run_grpo(settings, tmp_path, fallback=coin)
    assert [path.name for path in (tmp_path / "checkpoints").glob("[0-9]*")] == ["2"]
    calls = count_rollouts(monkeypatch)
    run_grpo(settings, tmp_path, fallback=coin)
    assert calls == [3 + 1]  # the checkpoint of step 2 has rollout 3 in it
    assert_same_run(tmp_path, whole)


def killed(why):
    raise Killed(why)


def count_rollouts(monkeypatch):
    """Returns a list that grows by the number of its step with every rollout that is begun."""
    begun, begin = [], PipelinedRollouts._begin

    def watched(self, step, policy, *, lag):
        begun.append(step)
        begin(self, step, policy, lag=lag)

    monkeypatch.setattr(PipelinedRollouts, "_begin", watched)
    return begun


@pytest.mark.parametrize("step", [1, 3])
def test_a_run_told_to_stop_saves_the_rollout_that_is_ahead(settings, one_device, whole, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch, pytest.raises(Preempted):
        before_saving(patch, f"{step:06d}.arrayrecord", lambda: os.kill(os.getpid(), signal.SIGTERM))
        run_grpo(settings, tmp_path, fallback=coin)
    calls = count_rollouts(monkeypatch)
    run_grpo(settings, tmp_path, fallback=coin)
    assert calls == list(range(step + 2, STEPS + 1))
    assert_same_run(tmp_path, whole)


# What is refused


def test_refills_on_several_devices_are_refused_before_anything_is_written(settings, tmp_path):
    with pytest.raises(UserError, match="pipeline=True with max_refills=1 samples beside an update, and on 8 devices"):
        run_grpo(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_several_hosts_are_refused(settings, alone, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="pipeline=True takes one host"):
        check_devices(alone, max_refills=0)


def test_an_objective_that_does_not_correct_for_older_rollouts_is_refused(settings):
    grpo = GrpoSettings(group_size=2, old_logprobs="trainer")
    with pytest.raises(UserError, match="pipeline=True trains on rollouts of an older policy"):
        dataclasses.replace(settings, grpo=grpo)
    corrected = dataclasses.replace(grpo, importance_cap=2.0)
    assert dataclasses.replace(settings, grpo=corrected).pipeline
    assert not dataclasses.replace(settings, grpo=grpo, pipeline=False).pipeline


def test_a_run_is_resumed_in_the_way_in_which_it_began(settings, one_device, whole):
    with pytest.raises(UserError, match="pipeline=True, this run has False"):
        run_grpo(dataclasses.replace(settings, pipeline=False), whole, fallback=coin)


# The thread


class EndsAtOnce:
    """Ends a rollout at the first check."""

    checks, all_drawn = 0, False

    def check(self):
        self.checks += 1
        raise concurrent.futures.CancelledError

    def drawn(self):
        self.all_drawn = True


def test_a_rollout_is_ended_between_two_bursts(settings, policy_folder):
    config = read_model_config(settings.init_from, settings.model)
    chat, task = load_chat(policy_folder), load_task(settings.task)
    sampler = Sampler(config, dataclasses.replace(settings.sampler, burst=2), eos_ids=[], pad_id=0)
    watcher = EndsAtOnce()
    with VerifierPool(num_workers=1) as pool:
        engine = RolloutEngine(sampler, chat, Judge(chat, task, pool, settings.reward), settings.grpo, 8)
        queue = ProblemQueue(ProblemSet(task.problems, seed=0))
        with pytest.raises(concurrent.futures.CancelledError):
            engine(sampler.unroll(load_model(policy_folder).params), queue, jax.random.key(0), watcher=watcher)
    assert watcher.checks == 1 and sampler.stats is None  # of 16 rows and four bursts


def test_a_rollout_is_ended_between_two_judgements(settings, policy_folder):
    chat, task = load_chat(policy_folder), load_task(settings.task)
    asked = []

    class Sampled:
        stats = None

        def sample(self, *args, on_finished, **kwargs):
            for row in range(16):
                on_finished(row, np.array(chat.tokenizer.encode("no answer")), True)

    def slow(problem, text):
        asked.append(problem)
        time.sleep(0.2)
        return judged("x", True)

    watcher = EndsAtOnce()
    with VerifierPool(num_workers=1) as pool:
        engine = RolloutEngine(Sampled(), chat, Judge(chat, task, pool, settings.reward, slow), settings.grpo, 8)
        queue = ProblemQueue(ProblemSet(task.problems, seed=0))
        with pytest.raises(concurrent.futures.CancelledError):
            engine({}, queue, jax.random.key(0), watcher=watcher)
    assert watcher.all_drawn
    assert 0 < len(asked) < 16
