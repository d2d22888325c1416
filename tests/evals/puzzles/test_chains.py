import collections
import random

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.puzzles.chains import OPERATIONS, chain_problems, solve, split_of


def _chain(prompt: str) -> Problem:
    return Problem(id="x", prompt=prompt, answer="?", meta={})


@pytest.mark.parametrize(
    "prompt, response",
    [
        ("chain 7 +3 *9 -4 =", "<think> +3 0 *9 0 -4 6</think>\\boxed{6}"),
        ("chain 0 -1 =", "<think> -1 9</think>\\boxed{9}"),
        ("chain 8 *7 *3 +9 =", "<think> *7 6 *3 8 +9 7</think>\\boxed{7}"),
    ],
)
def test_the_solver_writes_every_operation_and_its_value(prompt, response):
    assert solve(_chain(prompt)).messages()[-1]["content"] == response


def test_the_answer_of_a_problem_is_the_answer_of_its_solution():
    for problem in chain_problems(50, seed=3, min_ops=2, max_ops=7):
        trace = solve(problem)
        assert (trace.id, trace.prompt, trace.answer) == (problem.id, problem.prompt, problem.answer)
        assert trace.thought.split()[-1] == problem.answer


def test_every_operation_is_a_bijection_so_guessing_scores_a_tenth():
    assert len(OPERATIONS) == 21
    for operation in OPERATIONS:
        answers = {solve(_chain(f"chain {start} {operation} =")).answer for start in range(10)}
        assert answers == set("0123456789")


def test_equal_arguments_give_equal_problems_and_another_seed_others():
    first = chain_problems(100, seed=1, min_ops=2, max_ops=5)
    assert first == chain_problems(100, seed=1, min_ops=2, max_ops=5)
    other = chain_problems(100, seed=2, min_ops=2, max_ops=5)
    assert len({p.prompt for p in first} & {p.prompt for p in other}) < 50


def test_no_problem_occurs_twice_even_where_short_chains_run_out():
    problems = chain_problems(6000, seed=0, min_ops=2, max_ops=3)
    assert len({p.prompt for p in problems}) == len({p.id for p in problems}) == 6000


def test_lengths_are_uniform_over_the_asked_range():
    counts = collections.Counter(p.meta["num_ops"] for p in chain_problems(3000, seed=5, min_ops=5, max_ops=7))
    assert set(counts) == {5, 6, 7}
    assert all(900 < n < 1100 for n in counts.values())
    for problem in chain_problems(20, seed=5, min_ops=5, max_ops=7):
        assert len(problem.prompt.split()) == problem.meta["num_ops"] + 3


def test_splits_never_share_a_problem_whatever_the_seed():
    sets = {
        (split, seed): {p.prompt for p in chain_problems(200, seed=seed, min_ops=2, max_ops=3, split=split)}
        for split in ("train", "dev", "test")
        for seed in range(3)
    }
    for (split, _), prompts in sets.items():
        assert {split_of(prompt) for prompt in prompts} == {split}
        for (other, _), others in sets.items():
            assert split == other or not prompts & others


def test_splits_hold_eighty_ten_and_ten_percent():
    rng = random.Random(0)
    counts = collections.Counter(split_of(" ".join(rng.choices(OPERATIONS, k=6))) for _ in range(20000))
    assert abs(counts["train"] - 16000) < 300
    assert abs(counts["dev"] - 2000) < 200
    assert abs(counts["test"] - 2000) < 200


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(num=10, min_ops=3, max_ops=2), "1 <= min_ops <= max_ops"),
        (dict(num=10, min_ops=0, max_ops=2), "1 <= min_ops <= max_ops"),
        (dict(num=10, min_ops=1, max_ops=2, split="valid"), "train, dev, test"),
        (dict(num=300, min_ops=1, max_ops=1), "ask for at most 84"),
    ],
)
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        chain_problems(seed=0, **arguments)


@pytest.mark.parametrize(
    "prompt", ["", "chain 7 =", "chain 7 +3", "7 +3 =", "chain 7 ^3 =", "chain x +3 =", "chain 7 *2 ="]
)
def test_text_that_is_no_chain_is_refused(prompt):
    with pytest.raises(UserError, match="not an arithmetic chain"):
        solve(_chain(prompt))
