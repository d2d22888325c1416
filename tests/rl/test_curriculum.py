"""A curriculum by level of difficulty, for problems of which hardly one comes twice."""

import json
from collections.abc import Sequence

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.rl.curriculum import Curriculum, CurriculumSettings
from phi4r.rl.problems import ProblemQueue, ProblemSet

NUM_ENDLESS = 10_000_000


def problem(number: int, size: int) -> Problem:
    return Problem(id=f"p{number}", prompt=f"{number}", answer="0", meta={"size": size})


class Endless(Sequence):
    """Ten million problems of sizes 3, 4 and 5 in turn; remembers how many were looked at."""

    def __init__(self):
        self.looked_at = 0

    def __len__(self):
        return NUM_ENDLESS

    def __getitem__(self, index):
        assert type(index) is int
        self.looked_at += 1
        return problem(index, 3 + index % 3)


def by_level(**settings) -> Curriculum:
    return Curriculum(CurriculumSettings(by="level", **settings), seed=0, level="size")


def sizes(asked):
    return {problem.meta["size"] for problem in asked.problems}


def test_a_level_has_the_mean_pass_rate_of_its_problems_and_forgets_as_it_is_told():
    curriculum = by_level(memory=0.75)
    curriculum.record([problem(0, 3), problem(1, 4), problem(2, 3)], [1.0, 0.25, 0.5])
    assert curriculum.state() == {"3": 0.75, "4": 0.25}  # the first time nothing is past
    curriculum.record([problem(3, 4), problem(4, 4)], [1.0, 0.5])
    assert curriculum.state() == {"3": 0.75, "4": 0.375}  # 0.75 * 0.25 + 0.25 * 0.75
    assert curriculum.levels() == curriculum.state()


def test_problems_never_asked_are_passed_over_by_what_is_known_of_their_level():
    curriculum = by_level(low=0.1, high=0.9, outside_share=0.0)
    curriculum.record([problem(0, 3), problem(1, 4)], [1.0, 0.5])
    assert not curriculum.asks(problem(7, 3), 7)
    assert curriculum.asks(problem(8, 4), 8)
    assert curriculum.asks(problem(9, 5), 9)  # a level that never was asked


def test_the_queue_moves_to_the_level_that_is_solved_sometimes():
    problems = ProblemQueue(ProblemSet(Endless(), seed=1), by_level(low=0.2, high=0.8, outside_share=0.0))
    first = problems.take(30)
    assert sizes(first) == {3, 4, 5}
    problems.record(first.problems, [{3: 1.0, 4: 0.5, 5: 0.0}[p.meta["size"]] for p in first.problems])
    assert sizes(problems.take(30)) == {4}
    metrics = problems.metrics()
    assert metrics.pop("skipped_problems") > 0
    assert metrics == {"pass_rate_3": 1.0, "pass_rate_4": 0.5, "pass_rate_5": 0.0}


def test_a_resumed_queue_asks_what_the_uninterrupted_one_asks():
    def queue():
        return ProblemQueue(ProblemSet(Endless(), seed=1), by_level(low=0.2, high=0.8, outside_share=0.2))

    def step(problems, number):
        asked = problems.take(8)
        problems.record(asked.problems, [(p.meta["size"] + number) % 3 / 2 for p in asked.problems])
        return asked

    whole, resumed = queue(), queue()
    for number in range(4):
        step(whole, number)
    state = json.loads(json.dumps(whole.state()))
    expected = [step(whole, number) for number in range(4, 10)]
    resumed.resume(state)
    assert [step(resumed, number) for number in range(4, 10)] == expected
    assert resumed.state() == whole.state()
    assert set(state["pass_rates"]) == {"3", "4", "5"}


def test_where_every_level_is_outside_the_search_ends_long_before_the_epoch():
    problems = Endless()
    queue = ProblemQueue(ProblemSet(problems, seed=1), by_level(low=0.2, high=0.8, outside_share=0.0))
    first = queue.take(9)
    queue.record(first.problems, [1.0] * 9)
    problems.looked_at = 0
    assert queue.take(2).places == [1009, 2010]  # 1,000 passed over before each
    assert problems.looked_at <= 2 * 1001


def test_levels_of_a_task_without_levels_are_refused():
    with pytest.raises(UserError, match=r"curriculum\.by='level' needs a task with levels"):
        Curriculum(CurriculumSettings(by="level"), seed=0, level="")
