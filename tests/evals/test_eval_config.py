import json

import pytest

from configs.eval_reasoning import get_config
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.experiment import EvalSettings
from phi4r.evals.puzzles.chains import chain_problems
from phi4r.main import run_experiment
from phi4r.settings import build


def test_the_config_is_the_protocol_of_the_paper():
    sections = get_config().to_dict()
    assert sections.pop("experiment") == "evaluate"
    settings = build(EvalSettings, sections, where="config")
    assert settings.decoding == DecodingSettings(temperature=0.8, top_p=0.95, top_k=50, max_tokens=65_536)
    assert (settings.num_runs, settings.sampler.max_response) == (50, 65_536)


def test_the_tiny_config_runs_end_to_end(make_model, tmp_path):
    config = get_config("tiny")
    config.model = str(make_model())
    results = run_experiment(config, tmp_path / "eval")["chains-test"]
    problems = chain_problems(100, seed=0, min_ops=6, max_ops=7, split="test")
    assert results["accuracy"] == pytest.approx(sum(problem.answer == "3" for problem in problems) / 100)
    assert results["num_runs"] == 3
    assert json.loads((tmp_path / "eval" / "config.json").read_text())["experiment"] == "evaluate"


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="'huge' is not a size of this config; take paper or tiny"):
        get_config("huge")
