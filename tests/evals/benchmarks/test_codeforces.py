import json
import math

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.codeforces import CODEFORCES, elo_summary
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.evals.responses import Response
from phi4r.verifiers.code.program_tests import ProgramTests

R, W = True, False
ROW = {
    "contest": 1850,
    "index": "A",
    "statement": "Print the sum of two numbers.",
    "tests": [{"input": "1 2\n", "output": "3\n"}, {"input": "5 5\n", "output": "10\n"}],
    "time_limit": 2,
    "memory_limit": 256,
    "points": 500,
    "rating": 1300,
    "standings": [{"rating": 1500, "score": 1400}, {"rating": 1300, "score": 1000}, {"rating": 1100, "score": 300}],
}
SECOND = {**ROW, "index": "B", "points": 1000, "standings": None}
ICPC_TABLE = [{"rating": 1000, "score": score, "penalty": p} for score, p in ((3, 99), (2, 20), (1, 0))]
ICPC = {**ROW, "contest": "1900", "points": None, "standings": ICPC_TABLE}


def _problem(row):
    return CODEFORCES.read(row, "cf.jsonl:3")


def _summary(rows, verdicts):
    """Rates a model with the given verdicts on each row, in order of its attempts."""
    problems = [_problem(row) for row in rows]
    responses = [
        Response(problem.id, run, "", 1, "stop", right, float(right), None, "ok")
        for problem, attempts in zip(problems, verdicts, strict=True)
        for run, right in reversed(list(enumerate(attempts)))  # the order of the file is not that of the runs
    ]
    return elo_summary(responses, {problem.id: problem.meta for problem in problems})


def test_a_row_becomes_a_problem():
    problem = _problem(ROW)
    assert problem.id == "1850-A"
    assert "Print the sum" in problem.prompt and "standard input" in problem.prompt
    assert ProgramTests.from_reference(problem.answer) == ProgramTests(
        ("1 2\n", "5 5\n"), ("3\n", "10\n"), None, 2.0, 256
    )
    assert problem.meta["difficulty"] == 1200 and problem.meta["points"] == 500.0
    assert problem.meta["standings"][0] == [1500.0, 1400.0, 0.0]
    assert json.loads(json.dumps(problem.meta)) == problem.meta


def test_a_contest_with_points_worked_by_hand():
    # 450 + 1000 points are the first place: the best participant's rating and 100.
    first = _summary([ROW, SECOND], [[W, R, W], [R, R, R]])
    assert first == {"elo": 1600.0, "percentile": 100.0, "contests": 1.0, "unrated_contests": 0.0, "solved": 1.0}
    # 450 points are behind two of three: 1 + p1 + p2 + p3 = 3.
    third = _summary([ROW, SECOND], [[W, R, W], [W, W, W]])
    chances = [1 / (1 + 10 ** ((third["elo"] - rating) / 400)) for rating in (1500, 1300, 1100)]
    assert 1 + sum(chances) == pytest.approx(3)
    assert third["solved"] == 0.5
    assert third["percentile"] == pytest.approx(100 / 3)


def test_a_contest_under_icpc_rules_worked_by_hand():
    second = {**ICPC, "index": "B", "standings": None}
    figures = _summary([ICPC, second], [[W, W, R], [W, R, R]])  # 2 solved, 30 minutes: two are better
    assert figures["elo"] == pytest.approx(1000 - 400 * math.log10(2))  # three chances of 2/3
    figures = _summary([{**ICPC, "penalty": 5}, {**second, "penalty": 5}], [[W, W, R], [W, R, R]])
    assert figures["elo"] == pytest.approx(1100.0)  # 15 minutes: one is better; the cap


def test_the_rating_is_the_mean_over_contests():
    figures = _summary([ROW, SECOND, ICPC], [[W, R, W], [R, R, R], [W, W, W]])
    assert figures["contests"] == 2
    assert figures["elo"] == pytest.approx((1600 + 0) / 2, abs=1e-6)
    assert figures["elo_low"] == pytest.approx(0, abs=1e-6) and figures["elo_high"] == pytest.approx(1600)


def test_attempts_count_in_the_order_of_runs():
    early, late = (_summary([ROW], [attempts])["elo"] for attempts in ([R] + [W] * 9, [W] * 9 + [R]))
    assert early > late


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{**ROW, "standings": None}], "no standings"),
        ([ROW, {**SECOND, "standings": ROW["standings"][:2]}], "different standings"),
        ([ROW, {**SECOND, "points": None}], "points and without"),
    ],
)
def test_a_contest_that_cannot_be_rated_is_said_and_counted(rows, message, caplog):
    alone = _summary(rows, [[R]] * len(rows))
    assert alone == {"solved": 1.0, "contests": 0.0, "unrated_contests": 1.0}
    assert message in caplog.text and "Contest 1850" in caplog.text
    beside = _summary([*rows, ICPC], [[R]] * len(rows) + [[W]])
    assert (beside["contests"], beside["unrated_contests"]) == (1, 1)
    assert beside["elo"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"contest": None},
        {"index": ""},
        {"statement": ""},
        {"tests": []},
        {"tests": [{"input": "1"}]},
        {"time_limit": None},
        {"time_limit": 0},
        {"time_limit": "2 seconds"},
        {"memory_limit": 0},
        {"points": "many"},
        {"points": math.nan},
        {"standings": [[1500, 1000]]},
        {"standings": [{"rating": None, "score": 1}]},
        {"standings": "1500"},
    ],
)
def test_a_malformed_row_is_named(change):
    with pytest.raises(UserError, match=r"^cf\.jsonl:3"):
        _problem({**ROW, **change})


def test_rows_are_loaded_asked_and_judged(tmp_path):
    path = tmp_path / "contests.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (ROW, SECOND, {"contest": 1})))
    loaded = load_benchmark(CODEFORCES, str(path))
    assert [problem.id for problem in loaded.problems] == ["1850-A", "1850-B"]
    assert len(loaded.malformed) == 1 and f"{path}:3" in loaded.malformed[0]
    verifier = CODEFORCES.make_verifier(False)
    right = "```python\nprint(sum(map(int, input().split())))\n```"
    assert verifier(right, loaded.problems[0].answer).correct
    assert not verifier(right.replace("sum", "max"), loaded.problems[0].answer).correct
