import json

import pytest

from phi4r.data.records import Problem
from phi4r.evals.benchmarks.table import BENCHMARKS
from phi4r.evals.responses import Response, response_table
from phi4r.evals.results import results_of, results_text
from phi4r.evals.runner import EvalResult
from phi4r.evals.tasks import Task
from phi4r.verifiers.exact import IntegerVerifier

PROTOCOL = {"seed": 0}


def response(item, run=0, *, correct=False, tokens=10, reason="stop", status="ok", answer="1", parts=None):
    return Response(item, run, "", tokens, reason, correct, float(correct), answer, status, parts or {})


def task(*items, **changes):
    problems = tuple(Problem(item, item, "1", {"year": 2000}) for item in items)
    return Task(**{"name": "sums", "problems": problems, "verifier": IntegerVerifier(), **changes})


def result(*responses):
    return EvalResult("sums", response_table(responses).scores(), responses, PROTOCOL)


TWO_RUNS = (
    response("a", 0, correct=True, tokens=10),
    response("a", 1, correct=True, tokens=20),
    response("b", 0, correct=True, tokens=30),
    response("b", 1, answer=None, status="no_answer", tokens=100, reason="length"),
)


def test_results_carry_statistics_and_protocol_as_json():
    values = results_of(result(*TWO_RUNS), task("a", "b", malformed=("f:3 is empty.",)))
    assert values == json.loads(json.dumps(values)) | {"run_accuracies": (1.0, 0.5)}
    assert values["task"] == "sums" and values["protocol"] == PROTOCOL
    assert (values["num_items"], values["num_runs"], values["accuracy"]) == (2, 2, 0.75)
    assert (values["truncated"], values["mean_tokens"], values["mean_tokens_right"]) == (0.25, 40.0, 20.0)
    assert (values["unjudged"], values["refused"], values["malformed"]) == (0, 0, ["f:3 is empty."])
    assert values["summary"] == {}


def test_the_table_has_percents_and_tokens():
    text = results_text(result(*TWO_RUNS), task("a", "b"))
    lines = {" ".join(line.split()) for line in text.splitlines()}
    assert text.startswith("sums: 2 problems, 2 runs\n")
    # Runs of 1 and 1/2: a sample deviation of 0.354. A vote of two decides both problems.
    assert any(line.startswith("accuracy 75.0% (95% interval ") and "sd over runs 35.4)" in line for line in lines)
    assert {
        "best, worst run 100.0%, 50.0%",
        "pass@2, majority@2 100.0%, 100.0%",
        "truncated 25.0% of the responses",
        "tokens 40 a response; right 20, wrong 100",
    } <= lines
    assert not any(word in text for word in ("not judged", "refused", "malformed"))


def test_one_run_has_no_spread_and_no_vote():
    text = results_text(result(response("a", correct=True)), task("a"))
    assert text.startswith("sums: 1 problems, 1 run\n")
    assert "sd over runs" not in text and "majority" not in text
    assert "right 10, wrong -" in text


def test_what_was_not_judged_and_what_was_refused_is_said():
    responses = (
        *(response(f"t{i}", status="timeout", answer=None) for i in range(2)),
        response("e", status="error", answer=None),
        response("u", status="unjudged", answer=None),  # no rule can tell: not wrong in silence
        response("r", status="no_answer", answer=None, reason="refused"),
    )
    asked = task("t0", "t1", "e", "u", "r", malformed=("f:1", "f:2"))
    values = results_of(result(*responses), asked)
    assert (values["unjudged"], values["refused"], len(values["malformed"])) == (4, 1, 2)
    lines = [" ".join(line.split()) for line in results_text(result(*responses), asked).splitlines()]
    assert "not judged 4 responses, counted as wrong: see their status in the file" in lines
    assert "refused 1 requests by the server, counted as wrong" in lines
    assert "malformed rows 2 left out, listed in results.json" in lines


def test_what_a_verifier_measures_besides_is_averaged_over_the_responses_that_have_it():
    responses = (
        response("a", parts={"format": 1.0, "duration": 0.5}),
        response("b", parts={"format": 0.5}),
        response("c", status="no_answer", answer=None),
    )
    assert results_of(result(*responses), task("a", "b", "c"))["summary"] == {"format": 0.75, "duration": 0.5}
    assert "format" in results_text(result(*responses), task("a", "b", "c"))


def test_a_benchmark_with_figures_of_its_own_knows_all_of_its_problems():
    """A contest is more than the groups that results are broken down by."""
    row = {
        "contest": 1,
        "index": "A",
        "statement": "Add.",
        "tests": [{"input": "1", "output": "1"}],
        "time_limit": 1,
        "points": 500,
        "standings": [{"rating": 1500, "score": 500}, {"rating": 1300, "score": 100}],
    }
    problem = BENCHMARKS["codeforces"].read(row, "f:1")
    asked = Task("cf", (problem,), IntegerVerifier(), benchmark="codeforces", groups=("difficulty",))
    values = results_of(result(response("1-A", correct=True)), asked)
    # 500 points tie with the first place: the best participant's rating and 100.
    assert values["summary"] == {
        "elo": 1600.0,
        "percentile": 100.0,
        "contests": 1.0,
        "unrated_contests": 0.0,
        "solved": 1.0,
    }


@pytest.mark.parametrize("name", ["", "aime_2025", "no_such_benchmark"])
def test_a_task_without_figures_of_its_own_has_those_of_its_verifier(name):
    assert results_of(result(response("a", parts={"x": 1.0})), task("a", benchmark=name))["summary"] == {"x": 1.0}
