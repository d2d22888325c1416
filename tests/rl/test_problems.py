from collections import Counter

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.rl.problems import ProblemSet

PROBLEMS = [Problem(id=f"p{i}", prompt=f"{i} + 1 =", answer=str(i + 1)) for i in range(10)]


def test_an_epoch_asks_every_problem_once():
    problem_set = ProblemSet(PROBLEMS, seed=3)
    for epoch in range(3):
        asked = [p.id for step in range(5) for p in problem_set.at_step(5 * epoch + step, 2).problems]
        assert sorted(asked) == sorted(p.id for p in PROBLEMS)


def test_steps_that_cross_an_epoch_neither_skip_nor_repeat():
    problem_set = ProblemSet(PROBLEMS, seed=3)
    asked = [p.id for step in range(10) for p in problem_set.at_step(step, 3).problems]
    assert Counter(asked) == {p.id: 3 for p in PROBLEMS}
    for epoch in range(3):
        assert len(set(asked[10 * epoch : 10 * epoch + 10])) == 10


def test_a_step_is_a_pure_function_of_seed_and_number():
    whole = ProblemSet(PROBLEMS, seed=3)
    in_order = [whole.at_step(step, 3) for step in range(12)]
    for step in (11, 0, 7, 3, 7):
        assert ProblemSet(PROBLEMS, seed=3).at_step(step, 3) == in_order[step]
        assert whole.at_step(step, 3) == in_order[step]


def test_the_cut_into_steps_does_not_change_the_order():
    problem_set = ProblemSet(PROBLEMS, seed=3)
    by_two = [p for step in range(15) for p in problem_set.at_step(step, 2).problems]
    by_five = [p for step in range(6) for p in problem_set.at_step(step, 5).problems]
    assert by_two == by_five


def test_a_problem_that_comes_twice_in_a_step_has_two_places():
    asked = ProblemSet(PROBLEMS[:2], seed=3).at_step(4, 4)
    assert len({p.id for p in asked.problems}) == 2
    assert asked.places == [16, 17, 18, 19]


def test_seeds_and_epochs_have_orders_of_their_own():
    def order(seed, epoch):
        return tuple(p.id for p in ProblemSet(PROBLEMS, seed=seed).at_step(epoch, len(PROBLEMS)).problems)

    orders = {order(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_no_problems_are_refused():
    with pytest.raises(UserError, match="no problems"):
        ProblemSet([], seed=0)
