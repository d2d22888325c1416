import json

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.aime import AIME_1983_2024, AIME_2024, AIME_2025
from phi4r.evals.benchmarks.loading import load_benchmark

SPELLINGS = [
    {"problem_idx": 1, "problem": "How many?", "answer": 70},  # MathArena
    {"ID": "2025-I-1", "Year": 2025, "Part": "I", "Question": "How many?", "Answer": "70"},
    {"id": "aime25-0", "problem": "How many?", "expected_answer": "70", "reference_solution": "..."},  # NeMo-Skills
    {"id": 60, "problem": "How many?", "solution": "...", "answer": "070", "url": "...", "year": "2024"},
]


@pytest.mark.parametrize("row", SPELLINGS)
def test_all_spellings_of_the_fields_give_the_same_problem(row):
    problem = AIME_2025.read(row, "f:1")
    assert problem.prompt.startswith("How many?\n\n")
    assert r"an integer from 0 to 999, put into \boxed{}" in problem.prompt
    assert problem.answer == "70"
    assert problem.id in ("1", "2025-I-1", "aime25-0", "60")


@pytest.mark.parametrize("answer", ["", "x", "1000", "-1", "1, 2", "3.5", "1/2", None, ["7"]])
def test_answers_that_aime_cannot_have_are_malformed(answer):
    with pytest.raises(UserError, match="f:1"):
        AIME_2025.read({"problem": "How many?", "answer": answer}, "f:1")


def test_years_are_groups(tmp_path):
    file = tmp_path / "aime.csv"
    header = "ID,Year,Problem Number,Question,Answer,Part\n"
    file.write_text(header + "1983-1,1983,1,How many?,60,\n2000-II-3,2000,3,And now?,98,II\n2001-1,MM,1,Hm?,1,\n")
    problems, malformed = load_benchmark(AIME_1983_2024, str(file))
    assert [(p.id, p.answer, p.meta) for p in problems] == [
        ("1983-1", "60", {"year": 1983}),
        ("2000-II-3", "98", {"part": "II", "year": 2000}),
    ]
    assert malformed == (f"{file}:4: the year 'MM' must be a number of four digits.",)


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        (r"<think>\boxed{1}</think>\boxed{33}", True),
        (r"</think>\boxed{033}", True),
        (r"</think>\boxed{33.0}", True),
        (r"</think>\boxed{x = 33}", True),
        (r"</think>\boxed{33^\circ}", True),
        (r"</think>\boxed{33\text{ ways}}", True),
        (r"</think>\boxed{100}. Wait, \boxed{33}", True),
        (r"</think>\boxed{33}. Wait, \boxed{100}", False),
        (r"</think>\boxed{33, 34}", False),
        (r"</think>\boxed{33.5}", False),
        (r"</think>\boxed{\frac{66}{2}}", True),
        (r"</think>33 it is", False),
        (r"<think>\boxed{33}", False),  # cut off
    ],
)
def test_answers_are_judged_as_whole_numbers(response, correct):
    verdict = AIME_2025.make_verifier(True)(response, "33")
    assert verdict.correct is correct


def test_the_report_asks_the_thirty_problems_of_2025_fifty_times():
    assert (AIME_2025.num_items, AIME_2025.num_runs) == (30, 50)
    assert (AIME_1983_2024.num_items, AIME_1983_2024.num_runs, AIME_1983_2024.groups) == (None, 5, ("year",))


@pytest.mark.parametrize(("benchmark", "year"), [(AIME_2024, 2024), (AIME_2025, 2025)])
def test_the_real_files_are_read_whole(shared_data, benchmark, year):
    file = shared_data / "aime" / f"aime_{year}_nemo.jsonl"
    problems, malformed = load_benchmark(benchmark, str(file))
    rows = [json.loads(line) for line in file.open(encoding="utf-8")]
    assert [int(p.answer) for p in problems] == [int(row["expected_answer"]) for row in rows]
    assert (len(problems), malformed) == (30, ())
