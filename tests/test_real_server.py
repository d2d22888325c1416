"""A real language model behind a real server, against the same weights on our own sampler."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

from benchmarks import curate_real
from benchmarks.serving import transformers_server
from benchmarks.smollm2 import write_smollm2_folder
from phi4r.checkpoint.release import load_model
from phi4r.curation.pipeline import CurateSettings, run_curate
from phi4r.errors import UserError
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.experiment import EvalSettings, run_evaluate
from phi4r.evals.loading import make_generator
from phi4r.evals.responses import read_responses
from phi4r.evals.specs import load_task
from phi4r.model.rope_scaling import RopeSettings
from phi4r.sampling import SamplerSettings
from phi4r.sampling.endpoint import EndpointSettings
from phi4r.settings import build
from phi4r.text.chat import load_chat

for package in ("torch", "transformers", "accelerate", "fastapi", "uvicorn"):
    pytest.importorskip(package)

NUM_PROBLEMS, MAX_TOKENS = 4, 16
DECODING = DecodingSettings(temperature=0.0, top_p=1.0, top_k=0, max_tokens=MAX_TOKENS)


@pytest.fixture(scope="module")
def model():
    """The Hugging Face folder of SmolLM2-135M-Instruct, written once and kept for later runs."""
    try:
        return write_smollm2_folder(pathlib.Path(tempfile.gettempdir()) / "phi4r-smollm2-135m")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    """The base URL of a server of that model, which ends with the tests."""
    with transformers_server(model, tmp_path_factory.mktemp("server") / "log") as url:
        yield url


@pytest.fixture(scope="module")
def problems(shared_data, tmp_path_factory):
    """The task spec of the first problems of GSM8K."""
    lines = (shared_data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:NUM_PROBLEMS]
    file = tmp_path_factory.mktemp("gsm8k") / "gsm8k.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"gsm8k:{file}"


@pytest.fixture(scope="module")
def served(server, model, problems, tmp_path_factory):
    """The responses of an evaluation on the server, with its results and its folder."""
    workdir = tmp_path_factory.mktemp("served")
    endpoint = EndpointSettings(base_url=server, model=str(model), concurrency=2, max_retries=0, timeout_s=60.0)
    settings = EvalSettings(
        task=problems, generator="endpoint", endpoint=endpoint, decoding=DECODING, num_runs=1, thinking=False
    )
    results = run_evaluate(settings, workdir)
    return read_responses(workdir / "gsm8k" / "responses.jsonl"), results["gsm8k"], workdir


def test_an_evaluation_on_a_real_server_stores_and_counts_its_answers(served, model):
    responses, results, workdir = served
    assert len(responses) == NUM_PROBLEMS
    assert all(0 < response.num_tokens <= MAX_TOKENS and response.text for response in responses)
    assert results["mean_tokens"] == sum(response.num_tokens for response in responses) / NUM_PROBLEMS
    # 16 tokens of a chatty model are cut off, and what is cut off has no answer.
    assert results["truncated"] > 0 and results["accuracy"] == 0.0
    assert results["protocol"]["provenance"]["model"] == str(model)
    assert json.loads((workdir / "gsm8k" / "results.json").read_text())["num_items"] == NUM_PROBLEMS


def test_greedy_answers_of_the_server_are_those_of_our_own_sampler(served, model, problems):
    """Two programs that share nothing but the folder: template, tokens, weights, decoding and the count of tokens."""
    generator = make_generator(
        load_model(model),
        load_chat(model),
        sampler=SamplerSettings(prompt_length=256, max_response=MAX_TOKENS),
        decoding=DECODING,
        rope=RopeSettings(),
    )
    task = load_task(problems, thinking=False)
    answers = generator([task.conversation(problem) for problem in task.problems], seed=0)
    ours = {problem.id: answer for problem, (answer,) in zip(task.problems, answers, strict=True)}
    theirs = {response.id: response for response in served[0]}
    assert len({response.text for response in theirs.values()}) == NUM_PROBLEMS
    assert {key: (answer.text, answer.num_tokens) for key, answer in ours.items()} == {
        key: (response.text, response.num_tokens) for key, response in theirs.items()
    }


def test_the_command_asks_the_server_too(served, server, model, problems, repository, tmp_path):
    flags = [
        *("--config=configs/eval_reasoning.py:endpoint,others", f"--workdir={tmp_path}", f"--config.task={problems}"),
        *(f"--config.endpoint.base_url={server}", f"--config.endpoint.model={model}", "--config.num_runs=1"),
        *("--config.decoding.temperature=0.0", f"--config.decoding.max_tokens={MAX_TOKENS}"),
    ]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "phi4r.tools.cli", "evaluate", *flags]
    result = subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert f"gsm8k: {NUM_PROBLEMS} problems, 1 run" in result.stdout
    responses = read_responses(tmp_path / "gsm8k" / "responses.jsonl")
    assert sorted(map(repr, responses)) == sorted(map(repr, served[0]))


def test_curation_asks_the_server_as_its_weak_model_and_writes_what_rl_reads(server, model, shared_data, tmp_path):
    rows = curate_real.read_prompts(shared_data, 3)
    curate_real.write_inputs(tmp_path, rows)
    config = curate_real.sections(tmp_path, model, server, samples=2, max_tokens=MAX_TOKENS)
    summaries = run_curate(build(CurateSettings, config, where="config"), tmp_path / "run")
    assert summaries["seeds"]["in"] == 6 and summaries["teachability"]["failed"] == 0
    answers = {row["prompt"]: row["answer"] for of_set in rows.values() for row in of_set}
    task = load_task(f"tfds:real_rl/train@{tmp_path / 'data'}")
    assert 0 < len(task.problems) <= summaries["teachability"]["out"]
    for problem in task.problems:  # the plurality of the recorded strong model is the gold answer
        assert problem.answer == answers[problem.prompt]
        assert problem.meta["teachability"]["agreement"] in (0.0, 0.5)  # of two answers, none or one is right
