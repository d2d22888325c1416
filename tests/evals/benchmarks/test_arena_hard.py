import json

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.arena_hard import ARENA_HARD
from phi4r.evals.benchmarks.loading import load_benchmark
from phi4r.evals.judges import JUDGES
from phi4r.evals.specs import load_task

ROW = {"uid": "u1", "prompt": " Write a poem. ", "category": "verse", "baseline": "Roses are red."}


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        {**ROW, "uid": None, "question_id": "u1"},
        {**ROW, "prompt": None, "turns": [{"content": "Write a poem."}]},  # version 0.1 as it is published
        {**ROW, "category": None, "cluster": "verse"},
        {**ROW, "baseline": None, "reference": "Roses are red."},
    ],
)
def test_all_spellings_of_the_fields_give_the_same_problem(row):
    problem = ARENA_HARD.read(row, "f:1")
    assert (problem.id, problem.prompt, problem.answer) == ("u1", "Write a poem.", "Roses are red.")
    assert problem.meta == {"category": "verse"}


def test_a_request_without_a_category_has_an_empty_one():
    assert ARENA_HARD.read({"prompt": "Hi", "baseline": "Hello"}, "f:1").meta == {"category": ""}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ""}, "'prompt' is empty"),
        ({"prompt": None}, "no 'prompt'"),
        ({"baseline": None}, "no 'baseline' or 'reference'"),
        ({"turns": []}, "'turns' must be a list with the one request"),
        ({"turns": [{"content": "a"}, {"content": "b"}]}, "'turns' must be a list with the one request"),
        ({"turns": ["a"]}, "'turns' must be a list with the one request"),
        ({"turns": [{"content": ""}]}, "'content' is empty"),
    ],
)
def test_rows_without_a_request_or_a_baseline_are_malformed(change, message):
    with pytest.raises(UserError, match=f"f:1.*{message}"):
        ARENA_HARD.read({**ROW, **change}, "f:1")


def test_malformed_rows_of_a_file_are_left_out_and_told(tmp_path):
    file = tmp_path / "arena.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in (ROW, {**ROW, "uid": "u2", "baseline": ""})))
    problems, malformed = load_benchmark(ARENA_HARD, str(file))
    assert [problem.id for problem in problems] == ["u1"]
    assert malformed == (f"{file}:2: 'baseline' is empty; fill it in or leave the row out.",)


@pytest.mark.parametrize(
    ("response", "thinking", "status"),
    [
        ("<think>hm</think>Violets are blue.", True, "unjudged"),
        ("Violets are blue.", True, "no_answer"),  # cut off in the thought
        ("Violets are blue.", False, "unjudged"),
        ("<think>hm</think> \n", True, "no_answer"),
        ("", False, "no_answer"),
    ],
)
def test_no_rule_judges_a_response(response, thinking, status):
    verdict = ARENA_HARD.make_verifier(thinking)(response, "Roses are red.")
    assert (verdict.status, verdict.correct, verdict.score, verdict.answer) == (status, False, 0.0, None)


def test_the_task_is_judged_in_pairs_by_category(tmp_path):
    (tmp_path / "arena.jsonl").write_text(json.dumps(ROW) + "\n")
    task = load_task(f"arena_hard:{tmp_path / 'arena.jsonl'}")
    assert JUDGES[task.judge].num_games == 2
    assert (task.groups, task.num_runs) == (("category",), 1)


def test_without_a_file_it_is_said_where_to_get_one():
    with pytest.raises(UserError, match=r"arena_hard is not on the Hub .*arena-hard-auto\); pass your copy as"):
        load_task("arena_hard")
