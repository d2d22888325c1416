import json
from collections import Counter

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.rl.curriculum import Curriculum, CurriculumSettings
from phi4r.rl.problems import ProblemQueue, ProblemSet

PROBLEMS = [Problem(id=f"p{i}", prompt=f"{i} + 1 =", answer=str(i + 1)) for i in range(10)]


def queue(seed=3, num=10, **curriculum) -> ProblemQueue:
    """A queue of the first problems, with a curriculum where one of its settings is given."""
    known = Curriculum(CurriculumSettings(**curriculum), seed=seed) if curriculum else None
    return ProblemQueue(ProblemSet(PROBLEMS[:num], seed=seed), known)


def ids(asked):
    return [problem.id for problem in asked.problems]


# The sequence


def test_an_epoch_asks_every_problem_once():
    problem_set = ProblemSet(PROBLEMS, seed=3)
    for epoch in range(3):
        asked = [problem_set[place].id for place in range(10 * epoch, 10 * epoch + 10)]
        assert sorted(asked) == sorted(p.id for p in PROBLEMS)


def test_a_place_is_a_pure_function_of_seed_and_number():
    whole = ProblemSet(PROBLEMS, seed=3)
    in_order = [whole[place] for place in range(35)]
    for place in (34, 0, 21, 9, 21, 10):
        assert ProblemSet(PROBLEMS, seed=3)[place] == in_order[place]
        assert whole[place] == in_order[place]


def test_seeds_and_epochs_have_orders_of_their_own():
    def order(seed, epoch):
        return tuple(ProblemSet(PROBLEMS, seed=seed)[10 * epoch + number].id for number in range(10))

    orders = {order(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_no_problems_are_refused():
    with pytest.raises(UserError, match="no problems"):
        ProblemSet([], seed=0)


# The queue


def test_steps_that_cross_an_epoch_neither_skip_nor_repeat():
    problems = queue()
    asked = [name for _ in range(10) for name in ids(problems.take(3))]
    assert Counter(asked) == {p.id: 3 for p in PROBLEMS}
    for epoch in range(3):
        assert len(set(asked[10 * epoch : 10 * epoch + 10])) == 10


def test_the_cut_into_steps_does_not_change_the_order():
    by_two, by_five = queue(), queue()
    assert [p for _ in range(15) for p in by_two.take(2).problems] == [
        p for _ in range(6) for p in by_five.take(5).problems
    ]


def test_a_problem_that_comes_twice_in_a_step_has_two_places():
    problems = queue(num=2)
    problems.take(16)
    asked = problems.take(4)
    assert len(set(ids(asked))) == 2
    assert asked.places == [16, 17, 18, 19]


def test_a_resumed_queue_goes_on_where_the_saved_one_stood():
    whole, resumed = queue(), queue()
    whole.take(7)
    state = json.loads(json.dumps(whole.state()))
    expected = [whole.take(4) for _ in range(3)]
    resumed.resume(state)
    assert [resumed.take(4) for _ in range(3)] == expected
    assert expected[0].places == [7, 8, 9, 10]


# The curriculum


def test_problems_outside_the_band_lose_their_turns():
    problems = queue(low=0.2, high=0.8, outside_share=0.0)
    first = problems.take(10)
    # In the order asked: two never solved, two always, two at the very ends of the band, the others inside.
    problems.record(first.problems, [0.0, 0.1, 1.0, 0.9, 0.2, 0.8, 0.5, 0.5, 0.5, 0.5])
    again = problems.take(6)
    assert sorted(ids(again)) == sorted(ids(first)[4:])
    assert max(again.places) <= 19  # within the next epoch
    problems.take(6)
    assert problems.metrics()["skipped_problems"] >= 4


def test_a_problem_that_was_never_asked_is_asked():
    problems = queue(low=0.5, high=0.5, outside_share=0.0)
    for _ in range(5):
        asked = problems.take(2)
        problems.record(asked.problems, [0.0, 1.0])
    assert problems.state()["position"] == 10
    assert problems.metrics() == {"skipped_problems": 0.0}


def test_the_running_pass_rate_forgets_as_it_is_told():
    curriculum = Curriculum(CurriculumSettings(low=0.1, high=0.9, outside_share=0.0, memory=0.75), seed=0)
    problem = PROBLEMS[0]
    curriculum.record([problem], [0.0])
    assert not curriculum.asks(problem, 1)
    curriculum.record([problem], [0.5])  # 0.75 * 0 + 0.25 * 0.5
    assert curriculum.state() == {"p0": 0.125}
    assert curriculum.asks(problem, 1)


def test_outside_the_band_a_share_of_the_turns_is_kept():
    curriculum = Curriculum(CurriculumSettings(outside_share=0.25), seed=7)
    curriculum.record(PROBLEMS[:1], [1.0])
    asked = sum(curriculum.asks(PROBLEMS[0], place) for place in range(2000))
    assert 430 < asked < 570  # 500 expected, with a standard deviation of 19


def test_where_all_problems_are_outside_one_epoch_is_passed_over_and_then_one_is_asked():
    problems = queue(num=4, low=0.2, high=0.8, outside_share=0.0)
    first = problems.take(4)
    problems.record(first.problems, [1.0] * 4)
    assert problems.take(2).places == [8, 13]
    assert problems.metrics() == {"skipped_problems": 8.0}


def test_a_resumed_curriculum_asks_what_the_uninterrupted_one_asks():
    def step(problems):
        asked = problems.take(3)
        problems.record(asked.problems, [int(problem.id[1]) / 9 for problem in asked.problems])
        return asked

    whole, resumed = queue(low=0.3, high=0.7, outside_share=0.3), queue(low=0.3, high=0.7, outside_share=0.3)
    for _ in range(6):
        step(whole)
    state = whole.state()
    kept = json.loads(json.dumps(state))
    expected = [step(whole) for _ in range(12)]
    assert state == kept  # later steps leave it alone
    resumed.resume(kept)
    assert [step(resumed) for _ in range(12)] == expected
    assert resumed.state() == whole.state()
    assert whole.metrics()["skipped_problems"] > 0


@pytest.mark.parametrize(
    "changes", [{"low": 0.6, "high": 0.4}, {"high": 1.5}, {"outside_share": -0.1}, {"memory": 1.0}]
)
def test_a_curriculum_without_sense_is_refused(changes):
    with pytest.raises(UserError, match=f"curriculum.{next(iter(changes))}="):
        CurriculumSettings(**changes)
