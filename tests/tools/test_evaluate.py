import json
import os
import subprocess
import sys

import pytest

from phi4r.evals.benchmarks.table import BENCHMARKS
from phi4r.evals.puzzles.table import PUZZLES
from phi4r.tools.cli import main
from tests.sampling.chat_server import answer, chat_server

CONFIG = "configs/eval_reasoning.py:endpoint"
CHAINS = "chains:test?num=3&min_ops=6&max_ops=7"


def evaluate(repository, *argv):
    """Runs `phi4r evaluate` as a person does."""
    command = [sys.executable, "-m", "phi4r.tools.cli", "evaluate", *map(str, argv)]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True)


def served(server, workdir, task=CHAINS):
    """The flags of an evaluation on a server that is not tried again."""
    return [
        *(f"--config={CONFIG}", f"--workdir={workdir}", f"--config.task={task}"),
        *("--config.num_runs=2", "--config.endpoint.model=m", "--config.endpoint.max_retries=0"),
        f"--config.endpoint.base_url={server.url}",
    ]


def test_all_tasks_are_listed_with_their_sizes_and_sources(capsys):
    main(["evaluate", "--tasks"])
    lines = capsys.readouterr().out.splitlines()
    listed = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert set(listed) == set(BENCHMARKS) | set(PUZZLES)
    assert "30 problems, 50 runs, MathArena/aime_2025 (" in listed["aime_2025"]
    assert "5 runs, di-zhang-fdu/AIME_1983_2024" in listed["aime_1983_2024"] and "None" not in "".join(lines)
    assert "a file of yours (" in listed["codeforces"]
    for name, puzzle in PUZZLES.items():
        assert f"{puzzle.num_items} problems, {puzzle.num_runs} runs, ?" in listed[name]
        assert all(f"{key}={value}" in listed[name] for key, value in puzzle.parameters.items())


@pytest.mark.parametrize("argv", [[], ["--config=configs/eval_reasoning.py"], ["--workdir=runs/none"]])
def test_missing_flags_are_one_line_and_exit_code_2(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", *argv])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("phi4r evaluate: give --config=configs/NAME.py[:ARG] and --workdir=DIR, or --tasks")
    assert error.count("\n") == 1


def test_an_evaluation_on_a_server_is_stored_told_and_not_asked_again(repository, tmp_path):
    with chat_server(lambda _: answer("\\boxed{3}", reasoning_content="hm", num_tokens=7)) as server:
        flags = served(server, tmp_path / "run")
        first = evaluate(repository, *flags)
        assert first.returncode == 0, first.stderr
        assert len(server.requests) == 3 * 2
        again = evaluate(repository, *flags)
        assert (again.returncode, again.stdout) == (0, first.stdout)
        assert len(server.requests) == 3 * 2
    assert "chains-test: 3 problems, 2 runs" in first.stdout and "7 a response" in first.stdout
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "chains-test" / "responses.jsonl").read_text().splitlines()
    ]
    assert {(row["text"], row["num_tokens"]) for row in rows} == {("<think>hm</think>\\boxed{3}", 7)}
    assert json.loads((tmp_path / "run" / "config.json").read_text())["endpoint"]["model"] == "m"


def test_what_was_answered_before_a_server_broke_down_is_kept_and_the_rest_is_asked_later(repository, tmp_path):
    def refuses_the_fifth(_):
        expired = len(server.requests) == 5
        return (401, {}, {"error": {"message": "late"}}) if expired else answer("</think>\\boxed{3}")

    stored = tmp_path / "run" / "chains-test" / "responses.jsonl"
    with chat_server(refuses_the_fifth) as server:
        flags = [*served(server, tmp_path / "run"), "--config.endpoint.concurrency=1"]
        result = evaluate(repository, *flags)
        assert result.returncode == 2 and "Traceback" not in result.stderr
        last = result.stderr.splitlines()[-1]
        assert last.startswith(f"phi4r: the endpoint {server.url} answers 401: late")
        assert last.endswith("Finished answers are kept: mend it and start the same command again.")
        assert len(stored.read_text().splitlines()) == 4
        assert evaluate(repository, *flags).returncode == 0
    assert len(server.requests) == 5 + 2
    assert len(stored.read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("maze tsq", "unknown task 'tsq'; did you mean 'tsp'?"),
        ("maze?nun=3", "task 'maze?nun=3': nun=3 is not one of"),
        ("", "task is empty"),
    ],
)
def test_a_misspelt_task_is_one_line_and_exit_code_2_before_anything_is_asked(repository, task, message, tmp_path):
    with chat_server(lambda _: answer("3")) as server:
        result = evaluate(repository, *served(server, tmp_path / "run", task))
    assert (result.returncode, result.stdout, server.requests) == (2, "", [])
    assert result.stderr.startswith("phi4r: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
