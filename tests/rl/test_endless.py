"""GRPO on a generated task of ten million problems: it looks at those that it asks, and at a sample before."""

import jax
import numpy as np
import pytest

from phi4r.checkpoint.release import load_model
from phi4r.evals.puzzles.puzzle import PuzzleProblems
from phi4r.metrics.writer import read_metrics
from phi4r.rl import train
from phi4r.rl.curriculum import CurriculumSettings
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.rewards import RewardSettings
from phi4r.rl.train import GrpoRunSettings, run_grpo
from phi4r.sampling import SamplerSettings
from phi4r.sharding import MeshSettings
from phi4r.train.optim import OptimizerSettings
from phi4r.train.setup import ModelOverrides

from .runs import Killed, coin

INSPECTED = 2000  # of `Task.inspected`


@pytest.fixture(scope="module")
def settings(policy_folder) -> GrpoRunSettings:
    """Three steps of eight mazes with four responses each, and a curriculum over the lengths of their paths."""
    return GrpoRunSettings(
        init_from=str(policy_folder),
        task="maze?size=2&wording=short&num=10000000&seed=1&split=train",
        sampler=SamplerSettings(prompt_length=32, max_response=8),
        num_steps=3,
        problems_per_step=8,
        curriculum=CurriculumSettings(by="level", low=0.4, high=0.6, outside_share=0.5),
        model=ModelOverrides(dtype="float32", remat="none"),
        mesh=MeshSettings(fsdp=8),
        reward=RewardSettings(max_length=8, positive_control_length=6, negative_control_length=4, think_missing=0.5),
        grpo=GrpoSettings(group_size=4, kl_beta=0.1),
        optimizer=OptimizerSettings(learning_rate=1e-2, warmup_steps=0, schedule="constant", weight_decay=0.0),
        logprob_chunk=16,
        save_every=2,
    )


@pytest.fixture(scope="module")
def whole(settings, tmp_path_factory):
    """The workdir of an uninterrupted run, and the numbers of the problems that it made, in order."""
    workdir, made = tmp_path_factory.mktemp("whole"), []
    make = PuzzleProblems._make
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PuzzleProblems, "_make", lambda self, index: made.append(index) or make(self, index))
        run_grpo(settings, workdir, fallback=coin)
    return workdir, made


def test_no_step_of_a_run_walks_through_all_problems(whole):
    workdir, made = whole
    skipped = int(read_metrics(workdir)[-1]["skipped_problems"])
    assert len(made) <= INSPECTED + 3 * 8 + skipped + 1  # and the first, which shows that the parameters are sound
    assert max(made) > 1_000_000  # those asked come from all over


def test_pass_rates_of_levels_are_logged(whole):
    workdir, _ = whole
    rates = {name: value for name, value in read_metrics(workdir)[-1].items() if name.startswith("pass_rate_")}
    assert set(rates) <= {"pass_rate_1", "pass_rate_2", "pass_rate_3"} and len(rates) >= 2
    assert all(0.0 <= rate <= 1.0 for rate in rates.values())


def test_a_killed_run_resumes_with_the_levels_that_it_knew(settings, whole, tmp_path, monkeypatch):
    save_rollout = train.save_rollout

    def dies_in_the_third(path, *rest, **gaps):
        if path.name.startswith("000003"):
            raise Killed
        save_rollout(path, *rest, **gaps)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, "save_rollout", dies_in_the_third)
        run_grpo(settings, tmp_path, fallback=coin)
    run_grpo(settings, tmp_path, fallback=coin)
    last, expected = read_metrics(tmp_path)[-1], read_metrics(whole[0])[-1]
    levels = [name for name in expected if name.startswith("pass_rate_") or name == "skipped_problems"]
    assert [last[name] for name in levels] == [expected[name] for name in levels]
    final, uninterrupted = (jax.device_get(load_model(run / "params").params) for run in (tmp_path, whole[0]))
    jax.tree.map(np.testing.assert_array_equal, final, uninterrupted)
