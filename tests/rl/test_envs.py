"""The environments of configs/grpo_envs.py: they fit their models, their solvers are right, and one runs in small."""

import re

import pytest

from configs import grpo_envs
from phi4r.evals.specs import load_task, solver_of
from phi4r.main import run_experiment
from phi4r.metrics.writer import read_metrics
from phi4r.quickstart.settings import QuickstartSettings
from phi4r.settings import build
from phi4r.text.chat import Chat, load_chat
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder

ENVS = ("maze", "3sat", "tsp", "ba_calendar", "spatial_map", "flenqa")
WITHOUT_LEVELS = ("3sat", "tsp")  # all formulas have three variables, and all tours four cities


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> Chat:
    """The format of the quickstart's models, as the stages "base" and "convert" make it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), folder / "plain")
    write_reasoning_tokenizer(folder / "plain", folder / "reasoning", system_message=None)
    return load_chat(folder / "reasoning")


def built(env: str) -> QuickstartSettings:
    sections = grpo_envs.get_config(env).to_dict()
    assert sections.pop("experiment") == "quickstart"
    return build(QuickstartSettings, sections, where="config")


def test_every_generated_task_of_the_suite_is_an_environment():
    with pytest.raises(ValueError, match=" or ".join(ENVS)):
        grpo_envs.get_config("no such environment")


@pytest.mark.parametrize("env", ENVS)
def test_an_environment_builds_and_trains_tests_and_probes_on_splits_of_its_own(env):
    settings = built(env)
    splits = {
        "train": (settings.problems.sft, settings.grpo.task),
        "dev": (settings.sft.probe.task, settings.grpo.probe.task),
        "test": (settings.problems.test, settings.evaluation.task),
    }
    for split, specs in splits.items():
        for spec in specs:
            assert spec.startswith(f"{env}?") and f"split={split}" in spec
    assert settings.evaluation.decoding.max_tokens == settings.grpo.sampler.max_response
    curriculum = settings.grpo.curriculum
    assert curriculum is None if env in WITHOUT_LEVELS else curriculum.by == "level"


@pytest.mark.parametrize("env", ENVS)
def test_prompts_and_thoughts_fit_and_the_solver_is_judged_right(env, chat):
    settings = built(env)
    solve, sampler, reward = solver_of(settings.problems.sft), settings.grpo.sampler, settings.grpo.reward
    for task in map(load_task, (settings.problems.sft, settings.grpo.task)):
        for problem in task.problems[:50]:
            prompt = chat.prompt_ids(task.conversation(problem))
            assert len(prompt) <= sampler.prompt_length
            trace = solve(problem)
            example = chat.example(trace.messages())
            assert sum(example.trained) <= reward.positive_control_length < sampler.max_response
            assert len(example.tokens) <= settings.sft.data.row_length
            assert task.verifier(f"<think>{trace.thought}</think>{trace.solution}", problem.answer).correct


@pytest.mark.parametrize("env", [env for env in ENVS if env not in WITHOUT_LEVELS])
def test_problems_are_spread_over_levels(env):
    task = load_task(built(env).grpo.task)
    levels = [problem.meta[task.level] for problem in task.problems[:120]]
    assert 2 <= len(set(levels)) <= 12
    assert max(map(levels.count, levels)) < 100


def small_config(env: str):
    """The same stages, a few steps each, of a model of one narrow layer."""
    config = grpo_envs.get_config(env)
    config.base.num_layers = 1
    config.base.embed_dim = 32
    config.base.num_heads = 2
    config.base.mlp_dim = 32
    config.base.head_dim = 16
    for name, number in {"sft": 100, "test": 8}.items():
        config.problems[name] = re.sub(r"num=\d+", f"num={number}", config.problems[name])
    config.evaluation.task = f"{config.problems.test}&name=test"
    config.sft.num_steps = 12
    config.sft.optimizer.warmup_steps = 2
    config.grpo.num_steps = 3
    config.grpo.problems_per_step = 16
    config.grpo.optimizer.warmup_steps = 1
    del config.sft.probe
    config.grpo.probe.every, config.grpo.probe.num_problems = 3, 8
    config.evaluation.num_runs = 2
    return config


def test_an_environment_in_miniature_runs_from_base_to_report_and_logs_the_pass_rates_of_its_levels(tmp_path):
    report = run_experiment(small_config("maze"), tmp_path)
    assert list(report["models"]) == ["base", "sft", "grpo"]
    assert all(entry["n"] == 8 and entry["num_runs"] == 2 for entry in report["models"].values())
    assert "GRPO (Figure 7)" in (tmp_path / "report.html").read_text()
    last = [row for row in read_metrics(tmp_path / "grpo") if "reward" in row][-1]
    rates = {name: value for name, value in last.items() if name.startswith("pass_rate_")}
    assert set(rates) <= {f"pass_rate_{length}" for length in range(4, 9)} and len(rates) >= 3
    assert all(0.0 <= rate <= 1.0 for rate in rates.values())
