from collections import Counter

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.evals.benchmarks.math_sets import GSM8K, MATH_500, OLYMMATH


def test_math_500_has_subjects_and_levels(shared_data):
    problems, malformed = load_benchmark(MATH_500, str(shared_data / "math500" / "math500_test.jsonl"))
    assert (len(problems), malformed) == (500, ())
    assert Counter(p.meta["level"] for p in problems) == {1: 43, 2: 90, 3: 105, 4: 128, 5: 134}
    assert problems[0].id == "test/precalculus/807.json"
    assert problems[0].meta["subject"] == "Precalculus"


def test_gsm8k_answers_stand_after_the_mark(shared_data):
    problems, malformed = load_benchmark(GSM8K, str(shared_data / "gsm8k" / "test.jsonl"))
    assert (len(problems), malformed) == (1319, ())
    assert [p.answer for p in problems[:4]] == ["18", "3", "70000", "540"]
    assert all(p.answer.removeprefix("-").replace(".", "", 1).isdigit() for p in problems)


@pytest.mark.parametrize(("answer", "expected"), [("so\n#### 1,234", "1234"), ("#### 5 ####  -7 ", "-7")])
def test_grouping_commas_of_gsm8k_are_dropped(answer, expected):
    assert GSM8K.read({"question": "How many?", "answer": answer}, "f:1").answer == expected


@pytest.mark.parametrize("answer", ["18", "so it is 18 ####", ""])
def test_a_solution_of_gsm8k_without_an_answer_is_malformed(answer):
    with pytest.raises(UserError, match="f:1"):
        GSM8K.read({"question": "How many?", "answer": answer}, "f:1")


def test_olymmath_has_an_easy_and_a_hard_half(shared_data):
    problems, malformed = load_benchmark(OLYMMATH, str(shared_data / "olymmath"))
    assert (len(problems), malformed) == (200, ())
    assert Counter(p.meta["level"] for p in problems) == {"easy": 100, "hard": 100}
    assert Counter(p.meta["subject"] for p in problems)["Geometry"] == 58


@pytest.mark.parametrize("benchmark", [MATH_500, OLYMMATH])
def test_prompts_say_where_the_answer_goes(benchmark):
    problem = benchmark.read({"problem": "Solve it.", "answer": "1", "unique_id": "a"}, "f:1")
    assert problem.prompt.startswith("Solve it.\n\n")
    assert r"\boxed{}" in problem.prompt
