"""The quickstart in miniature: the same stages, a few steps each."""

import json
import re

import numpy as np
import pytest

from configs import quickstart
from phi4r.checkpoint.release import load_hf_folder
from phi4r.data.sources import open_source
from phi4r.errors import UserError
from phi4r.evals.responses import read_responses
from phi4r.main import run_experiment
from phi4r.metrics.writer import read_metrics
from phi4r.quickstart.table import read_reports, results_table

NUMBERS = {"sft": 100, "rl": 50, "dev": 8, "test": 8}


def small_config(seed: int = 0):
    config = quickstart.get_config()
    config.seed = seed
    config.controls = True
    config.base.num_layers = 1
    config.base.embed_dim = 32
    config.base.num_heads = 2
    config.base.mlp_dim = 32
    config.base.head_dim = 16
    config.problems = {name: re.sub(r"num=\d+", f"num={NUMBERS[name]}", config.problems[name]) for name in NUMBERS}
    config.sft.num_steps = 12
    config.sft.save_every = 12
    config.sft.optimizer.warmup_steps = 2
    config.sft.probe.every = 12
    config.sft.log_every = 2
    config.grpo.num_steps = 6
    config.grpo.problems_per_step = 8
    config.grpo.probe.every = 6
    config.evaluation.num_runs = 2
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("quickstart")
    return workdir, run_experiment(small_config(), workdir)


def test_the_report_has_every_model_its_interval_and_the_versions(finished):
    workdir, report = finished
    assert report == json.loads((workdir / "report.json").read_text())
    assert list(report["models"]) == ["base", "sft", "grpo", "plain", "continued"]
    for entry in report["models"].values():
        assert entry["n"] == 8 and entry["num_runs"] == 2
        low, high = entry["interval"]
        assert 0.0 <= low <= entry["t08"] <= high <= 1.0
    assert {"sft", "grpo", "evaluate grpo", "export", "report"} <= set(report["seconds"])
    assert {"phi4r", "python", "jax", "flax"} <= set(report["versions"])
    page = (workdir / "report.html").read_text()
    assert "Figure 7" in page and "Figure 4" in page and "<script" not in page


def test_the_report_agrees_with_the_stored_responses(finished):
    workdir, report = finished
    responses = read_responses(workdir / "evaluation" / "grpo" / "greedy" / "test" / "responses.jsonl")
    assert report["models"]["grpo"]["greedy"] == np.mean([response.correct for response in responses])


def test_grpo_and_test_problems_are_longer_than_those_of_sft_and_never_shared(finished):
    workdir, _ = finished
    data = f"{workdir}/problems/data"
    places = {name: f"tfds:quickstart_{name}/train@{data}" for name in ("sft", "rl")}
    places |= {name: f"jsonl:{workdir}/problems/{name}.jsonl" for name in ("dev", "test")}
    rows = {name: list(map(open_source(place).__getitem__, range(NUMBERS[name]))) for name, place in places.items()}
    assert {row["meta"]["num_ops"] for row in rows["sft"]} == {2, 3, 4, 5}
    prompts = {name: {row["prompt"] for row in of_set} for name, of_set in rows.items()}
    assert {len(prompt.split()) - 3 for prompt in prompts["rl"] | prompts["test"]} == {6, 7}
    assert sum(map(len, prompts.values())) == len(set().union(*prompts.values()))


def test_continued_sft_has_about_the_time_that_grpo_took(finished):
    workdir, report = finished
    step_s = np.median([row["step_s"] for row in read_metrics(workdir / "sft") if "step_s" in row])
    steps = max(row["step"] for row in read_metrics(workdir / "continued"))
    assert steps == max(int(report["seconds"]["grpo"] / step_s), 3)


def test_a_second_run_does_nothing_again(finished, capsys):
    workdir, report = finished
    assert run_experiment(small_config(), workdir) == report
    assert capsys.readouterr().err.count("done before") == len(report["seconds"])


def test_another_config_in_the_same_workdir_is_refused(finished):
    workdir, _ = finished
    with pytest.raises(UserError, match=r"seed.*another --workdir"):
        run_experiment(small_config(seed=1), workdir)


def test_transformers_loads_the_exported_folder_and_agrees(finished):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from phi4r.model.transformer import Transformer, unembed

    workdir, _ = finished
    theirs = transformers.AutoModelForCausalLM.from_pretrained(workdir / "hf", dtype=torch.float32)
    assert type(theirs).__name__ == "Phi3ForCausalLM"
    config, params = load_hf_folder(workdir / "hf", dtype="float32")
    tokens = np.arange(100, 120, dtype=np.int32)[None]
    ones, positions = np.ones_like(tokens), np.arange(20, dtype=np.int32)[None]
    hidden, _ = Transformer(config).apply({"params": params}, tokens, ones, positions)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens.astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(unembed(hidden, params), expected, atol=2e-5)


def test_results_of_several_seeds_are_joined_by_model():
    models = {"sft": {"greedy": 0.4, "t08": 0.3}, "grpo": {"greedy": 0.8, "t08": 0.6}}
    better = {"sft": {"greedy": 0.6, "t08": 0.5}, "grpo": {"greedy": 1.0, "t08": 0.8}}
    table = results_table({"seed1": {"models": models}, "seed2": {"models": better}})
    assert table.splitlines()[-1] == "| mean | 50.0, 40.0 | 90.0, 70.0 |"


def test_an_unfinished_quickstart_cannot_be_joined(tmp_path):
    with pytest.raises(UserError, match="finish that quickstart first"):
        read_reports([str(tmp_path)])
