import dataclasses
import itertools
import json
import re

import pytest

from configs import common
from configs.eval_reasoning import get_config
from phi4r.evals.benchmarks.table import BENCHMARKS
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.experiment import EvalSettings
from phi4r.evals.judging import JudgeSettings
from phi4r.evals.puzzles.chains import chain_problems
from phi4r.evals.puzzles.table import PUZZLES
from phi4r.evals.reporting.published import PUBLISHED
from phi4r.evals.responses import read_responses
from phi4r.main import run_experiment
from phi4r.sampling.endpoint import EndpointSettings
from phi4r.settings import build
from tests.sampling.chat_server import answer, chat_server

ON_SERVERS_ONLY = [name for name, preset in common.EVAL_FAMILIES.items() if "endpoint" in preset]


def settings(*argument) -> EvalSettings:
    sections = get_config(*argument).to_dict()
    assert sections.pop("experiment") == "evaluate"
    return build(EvalSettings, sections, where="config")


def names(task: str) -> list[str]:
    return [re.split(r"[:?]", spec)[0] for spec in task.split()]


def test_the_config_is_the_protocol_of_the_paper():
    paper = settings()
    assert paper.decoding == DecodingSettings(temperature=0.8, top_p=0.95, top_k=50, max_tokens=65_536)
    assert (paper.task, paper.num_runs, paper.sampler.max_response) == ("aime_2025", 50, 65_536)
    assert paper.num_runs == BENCHMARKS["aime_2025"].num_runs
    assert paper.thinking and paper.judge is None and paper.extraction is None


def test_the_suite_asks_every_set_of_the_tables_with_its_own_runs():
    suite = settings("suite")
    asked = names(suite.task)
    assert len(set(asked)) == len(asked) == 20
    assert set(asked) <= set(BENCHMARKS) | set(PUZZLES)
    # Of what the paper has figures for, each is asked in one form; the generated ones stand in for the published.
    rows = {row.title: row.benchmarks for row in PUBLISHED.values()}
    assert all(len(set(forms) & set(asked)) == 1 for forms in rows.values())
    assert suite.num_runs is None
    assert suite.decoding == settings().decoding


def test_what_is_not_on_the_hub_is_named_as_a_file_and_the_docstring_counts_the_responses():
    tables = {**BENCHMARKS, **PUZZLES}
    specs = settings("suite").task.split()
    assert {spec.partition(":")[0] for spec in specs if ":" in spec} == {
        name for name in names(" ".join(specs)) if not getattr(tables[name], "hub", "generated")
    }
    # AIME 1983-2024 has 933 problems on the Hub; how many LiveCodeBench and Codeforces have is not known here.
    counted = {"aime_1983_2024": 933, "livecodebench": 0, "codeforces": 0}
    total = sum(counted.get(name, tables[name].num_items) * tables[name].num_runs for name in names(" ".join(specs)))
    assert total == 97_196


def test_the_endpoint_is_the_suite_on_a_server_with_every_setting_of_it():
    config, asked = get_config("endpoint"), settings("endpoint")
    assert set(config.endpoint) == {field.name for field in dataclasses.fields(EndpointSettings)}
    assert (asked.generator, asked.sampler, asked.model) == ("endpoint", None, "")
    suite = settings("suite")
    assert (asked.task, asked.num_runs, asked.decoding) == (suite.task, suite.num_runs, suite.decoding)


@pytest.mark.parametrize(
    ("family", "temperature", "top_p", "top_k", "thinking"),
    [
        ("phi4_reasoning", 0.8, 0.95, 50, True),
        ("deepseek", 0.6, 0.95, 0, True),
        ("others", 1.0, 1.0, 0, False),
        ("server_default", 1.0, 1.0, 0, False),
        ("o_series", 1.0, 1.0, 0, False),
    ],
)
def test_families_are_decoded_as_in_the_paper(family, temperature, top_p, top_k, thinking):
    asked = settings(f"endpoint,{family}")
    assert asked.decoding == DecodingSettings(temperature, top_p, top_k, 65_536)
    assert asked.thinking is thinking
    assert asked.endpoint.omit == (("temperature", "top_p") if family in ON_SERVERS_ONLY else ())
    assert asked.endpoint.limit_field == ("max_completion_tokens" if family == "o_series" else "max_tokens")


@pytest.mark.parametrize(
    "argument",
    [
        ",".join(words)
        for size, family in itertools.product(("paper", "suite", "endpoint", "tiny"), ("", *common.EVAL_FAMILIES))
        if size == "endpoint" or family not in ON_SERVERS_ONLY
        for words in [[size, *([family] if family else []), "judge", "extraction"]]
    ],
)
def test_every_size_of_every_family_builds(argument):
    asked = settings(argument)
    assert asked.judge == asked.extraction == JudgeSettings(asked.judge.endpoint)
    assert (asked.judge.decoding.temperature, asked.judge.decoding.max_tokens) == (0.0, 4096)


def test_a_family_without_a_size_is_that_of_the_paper():
    assert get_config("deepseek") == get_config("paper,deepseek")
    assert get_config("judge") == get_config("paper,judge") != get_config("paper")


def test_the_tiny_config_runs_end_to_end(make_model, tmp_path):
    config = get_config("tiny")
    config.model = str(make_model())
    results = run_experiment(config, tmp_path / "eval")["chains-test"]
    problems = chain_problems(100, seed=0, min_ops=6, max_ops=7, split="test")
    assert results["accuracy"] == pytest.approx(sum(problem.answer == "3" for problem in problems) / 100)
    assert results["num_runs"] == 3
    assert json.loads((tmp_path / "eval" / "config.json").read_text())["experiment"] == "evaluate"


def test_the_endpoint_config_runs_end_to_end_with_a_judge_and_an_extraction(tmp_path):
    """Two chains, answered without a box, and an open request."""
    problems = chain_problems(2, seed=0, min_ops=6, max_ops=7, split="test")
    assert problems[0].answer != problems[1].answer

    def script(request):
        if request.body["model"] == "reader":
            return answer(problems[1].answer)
        if request.body["model"] == "judge":
            return answer("Verdict: [[B>>A]]" if "assistant A\nours" not in request.prompt else "[[A>>B]]")
        return answer("ours" if "poem" in request.prompt else "three", reasoning_content="hm", num_tokens=4)

    (tmp_path / "arena.jsonl").write_text(json.dumps({"uid": "a", "prompt": "a poem", "baseline": "theirs"}) + "\n")
    with chat_server(script) as server:
        config = get_config("endpoint,deepseek,judge,extraction")
        config.task = f"chains:test?num=2&min_ops=6&max_ops=7 arena_hard:{tmp_path / 'arena.jsonl'}"
        config.num_runs = 2
        for section, model in ((config.endpoint, "m"), (config.judge.endpoint, "judge")):
            section.base_url, section.model, section.max_retries = server.url, model, 0
        config.extraction.endpoint = {**config.judge.endpoint.to_dict(), "model": "reader"}
        results = run_experiment(config, tmp_path / "eval")
        sent = len(server.requests)
        assert run_experiment(config, tmp_path / "eval") == results and len(server.requests) == sent
    chains, arena = results["chains-test"], results["arena_hard"]
    assert (chains["model"], chains["accuracy"]) == ("m", 0.0)
    assert chains["extraction"] == {
        "accuracy": 0.5,  # both runs of the second problem
        "accuracy_by_rules": 0.0,
        "extracted": 4.0,
        "found_right": 2.0,
    }
    # Two runs of one request, each with two games won clearly; nothing to extract where no rule can judge.
    assert arena["judge"]["win_rate"] == 1.0 and arena["judge"]["judged"] == 4.0
    assert arena["extraction"]["extracted"] == 0.0
    assert sent == 4 + 4 + 2 + 4
    (asked, *_) = (request.body for request in server.requests if request.body["model"] == "m")
    assert (asked["temperature"], asked["top_p"], asked["max_tokens"]) == (0.6, 0.95, 65_536)
    assert "top_k" not in asked
    texts = {response.text for response in read_responses(tmp_path / "eval" / "chains-test" / "responses.jsonl")}
    assert texts == {"<think>hm</think>three"}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("huge", "'huge' is not a size of this config; take paper or suite or endpoint or tiny"),
        ("suite,deepsek", "'deepsek' does not follow a size; take phi4_reasoning or deepseek or others"),
        ("suite,tiny", "'tiny' does not follow a size"),
        ("suite,o_series", "'o_series' says what a server is sent; write endpoint,o_series"),
        ("server_default", "write endpoint,server_default"),
    ],
)
def test_an_unknown_argument_is_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        get_config(argument)
