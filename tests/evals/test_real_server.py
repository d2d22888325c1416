"""A real language model behind a real server, against the same weights on our own sampler."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import pytest

from benchmarks.smollm2 import write_smollm2_folder
from phi4r.checkpoint.release import load_model
from phi4r.errors import UserError
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.experiment import EvalSettings, run_evaluate
from phi4r.evals.loading import make_generator
from phi4r.evals.responses import read_responses
from phi4r.evals.specs import load_task
from phi4r.model.rope_scaling import RopeSettings
from phi4r.sampling import SamplerSettings
from phi4r.sampling.endpoint import EndpointSettings
from phi4r.text.chat import load_chat

for package in ("torch", "transformers", "accelerate", "fastapi", "uvicorn"):
    pytest.importorskip(package)

NUM_PROBLEMS, MAX_TOKENS = 4, 16
DECODING = DecodingSettings(temperature=0.0, top_p=1.0, top_k=0, max_tokens=MAX_TOKENS)
START_S = 120.0


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
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [pathlib.Path(sys.executable).with_name("transformers"), "serve", model, "--host", "127.0.0.1"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [*map(str, command), "--port", str(port), "--device", "cpu"], env=env, stdout=file, stderr=file
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen, log: pathlib.Path) -> None:
    """Returns when the server is ready."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, f"the server ended: {log.read_text()[-2000:]}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"the server was not ready in {START_S:g} s: {log.read_text()[-2000:]}")


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
