"""Runs whose steps take as many problems as it takes: killed and resumed, they are the uninterrupted ones."""

import jax
import pytest

from phi4r.data.sources import open_source
from phi4r.metrics.writer import read_metrics
from phi4r.rl import train
from phi4r.rl.curriculum import CurriculumSettings
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.reward_parts import RewardPart
from phi4r.rl.rewards import RewardSettings
from phi4r.rl.train import GrpoRunSettings, run_grpo
from phi4r.sampling import SamplerSettings
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.train.optim import OptimizerSettings
from phi4r.train.setup import ModelOverrides

from .runs import CLOCK, Killed, coin


@pytest.fixture(scope="module")
def settings(policy_folder) -> GrpoRunSettings:
    """Three steps of eight problems out of twelve, two responses each; up to twice replaced without spread."""
    return GrpoRunSettings(
        init_from=str(policy_folder),
        task="chains:train?num=12&min_ops=2&max_ops=3",
        sampler=SamplerSettings(prompt_length=24, max_response=8, num_slots=8),
        num_steps=3,
        problems_per_step=8,
        max_refills=2,
        curriculum=CurriculumSettings(low=0.2, high=0.9, outside_share=0.5),
        seed=5,
        model=ModelOverrides(dtype="float32", remat="none"),
        reward=RewardSettings(
            parts=(RewardPart("correct", 1.0), RewardPart("format", 0.25)),
            max_length=8,
            positive_control_length=6,
            negative_control_length=4,
        ),
        grpo=GrpoSettings(group_size=2),
        optimizer=OptimizerSettings(learning_rate=1e-3, warmup_steps=0, schedule="constant", weight_decay=0.0),
        logprob_chunk=16,
        save_every=2,
    )


def outcome(workdir):
    """The metrics of a run without what depends on the clock, and what was sampled at each step."""
    lines = [{k: repr(v) for k, v in line.items() if k not in CLOCK} for line in read_metrics(workdir)]
    sources = [open_source(f"arrayrecord:{path}") for path in sorted((workdir / "rollouts").iterdir())]
    rows = [[source[i] for i in range(len(source))] for source in sources]
    return lines, [[(row["problem"], row["tokens"], row["advantage"]) for row in step] for step in rows]


def test_a_resumed_run_refills_and_skips_as_the_uninterrupted_one(settings, tmp_path, monkeypatch):
    alone = make_mesh(MeshSettings(), jax.devices()[:1])
    monkeypatch.setattr(train, "make_mesh", lambda *_, **__: alone)
    run_grpo(settings, tmp_path / "whole", fallback=coin)
    save_rollout = train.save_rollout

    def dies(path, *rollout, **gaps):
        if path.name == "000003.arrayrecord":
            raise Killed
        save_rollout(path, *rollout, **gaps)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(train, "save_rollout", dies)
        run_grpo(settings, tmp_path / "killed", fallback=coin)
    run_grpo(settings, tmp_path / "killed", fallback=coin)
    lines, rows = outcome(tmp_path / "whole")
    assert outcome(tmp_path / "killed") == (lines, rows)
    assert [sum(advantage is not None for *_, advantage in step) for step in rows] == [16] * 3
    logged = read_metrics(tmp_path / "whole")
    assert [len(step) for step in rows] == [16 + 2 * line["dropped_groups"] for line in logged]  # all are on disk
    assert sum(line["dropped_groups"] for line in logged) > 4 and logged[-1]["skipped_problems"] > 0
