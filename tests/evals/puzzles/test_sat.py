import collections
import json
import random
import re

import pytest

from phi4r.errors import UserError
from phi4r.evals.puzzles.puzzle import PuzzleProblems
from phi4r.evals.puzzles.sat import CELLS, SAT, count_models, draw
from phi4r.evals.puzzles.sat_search import letters, look_up_clauses, propagate_and_branch, words

EIGHT = [(a, 2 * b, 3 * c) for a in (1, -1) for b in (1, -1) for c in (1, -1)]  # every assignment fails one of them


def problems(num, *, seed=0, split="test", **parameters):
    return PuzzleProblems(SAT, num=num, seed=seed, split=split, **parameters)


def models_by_solver(clauses, num_vars, at_most):
    """Asks an independent solver for models, each blocked before the next."""
    solvers = pytest.importorskip("pysat.solvers", reason="python-sat is not installed")
    with solvers.Glucose3(bootstrap_with=[list(clause) for clause in clauses]) as solver:
        count = 0
        while count < at_most and solver.solve():
            values = set(solver.get_model())
            count += 1
            solver.add_clause([-v if v in values else v for v in range(1, num_vars + 1)])
        return count


def test_models_are_counted_as_a_solver_counts_them():
    rng = random.Random(0)
    for index in range(80):
        formula = draw(rng, index, min_vars=3, max_vars=8, cell="all", wording="full")
        count = count_models(formula.clauses, formula.num_vars)
        assert count == models_by_solver(formula.clauses, formula.num_vars, at_most=256)
        assert CELLS[formula.cell].admits(count)


def test_models_are_counted_by_hand():
    assert count_models((), 3) == 8
    assert count_models(((1, 2, 3),), 3) == 7
    assert count_models(((1, 2, 3),), 5) == 28
    assert count_models(((1, 2, 3), (-1, -2, -3)), 4) == 12
    assert [count_models(tuple(EIGHT[:k]), 3) for k in range(9)] == [8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_the_evaluation_set_is_balanced_and_its_labels_are_those_of_a_solver():
    rows = [(problem, json.loads(problem.answer)) for problem in problems(192)]
    assert collections.Counter(problem.meta["num_vars"] for problem, _ in rows) == dict.fromkeys(range(4, 16), 16)
    assert collections.Counter(problem.meta["cell"] for problem, _ in rows) == dict.fromkeys(CELLS, 48)
    at_least = {"hard-many": 2, "hard-one": 1}
    for problem, formula in rows:
        found = models_by_solver(formula["clauses"], formula["num_vars"], at_most=2)
        assert found >= at_least.get(problem.meta["cell"], 0)
        assert formula["satisfiable"] == (found > 0)
        assert min(problem.meta["num_models"], 2) == found
        assert problem.meta["cell"] != "hard-one" or found == 1


@pytest.mark.parametrize(
    ("num_vars", "counts"), [(4, (17, 17, 9, 34)), (10, (43, 43, 21, 85)), (15, (64, 64, 32, 128))]
)
def test_cells_have_their_number_of_clauses(num_vars, counts):
    for cell, count in zip(("hard-many", "hard-one", "under", "over"), counts, strict=True):
        (problem,) = problems(1, min_vars=num_vars, max_vars=num_vars, cell=cell)
        assert problem.meta["num_clauses"] == len(json.loads(problem.answer)["clauses"]) == count


def test_clauses_have_three_distinct_variables_and_fair_signs():
    rng = random.Random(1)
    drawn = [draw(rng, 0, min_vars=15, max_vars=15, cell="over", wording="full") for _ in range(40)]
    clauses = [clause for formula in drawn for clause in formula.clauses]
    assert all(len({abs(x) for x in clause}) == 3 for clause in clauses)
    literals = collections.Counter(x for clause in clauses for x in clause)
    assert set(map(abs, literals)) == set(range(1, 16))
    assert len(clauses) == 5120 and all(400 < count < 630 for count in literals.values())  # 512 each, sd 21


def test_a_single_model_may_be_any_assignment():
    rng = random.Random(2)
    where = collections.Counter()
    for _ in range(800):
        formula = draw(rng, 0, min_vars=3, max_vars=3, cell="hard-one", wording="full")
        (missing,) = set(EIGHT) - set(formula.clauses)
        where[missing] += 1
    assert len(where) == 8 and all(60 < count < 145 for count in where.values())  # 100 each, sd 9


def read_prompt(problem):
    """Reads the clauses back from a prompt."""
    if problem.meta["wording"] == "short":
        head, clauses = problem.prompt.split(": ")
        assert head == f"sat {problem.meta['num_vars']}"
        return [[(ord(x.lower()) - 96) * (1 if x.islower() else -1) for x in clause] for clause in clauses.split()]
    rows = re.findall(r"^\d+\. \((.*)\)$", problem.prompt, re.MULTILINE)
    return [[int(x.replace("not x", "-").replace("x", "")) for x in row.split(" or ")] for row in rows]


@pytest.mark.parametrize("wording", ["full", "short"])
def test_the_prompt_shows_the_formula_of_the_reference(wording):
    for problem in problems(48, wording=wording):
        assert read_prompt(problem) == json.loads(problem.answer)["clauses"]


@pytest.mark.parametrize("wording", ["full", "short"])
def test_the_verifier_accepts_every_worked_solution(wording):
    verifier = SAT.make_verifier(True)
    for problem in problems(200, split="train", wording=wording):
        trace = SAT.solve(problem)
        verdict = verifier(trace.messages()[-1]["content"], problem.answer)
        assert verdict.correct and verdict.parts == {"clauses": 1.0}
        assert (trace.id, trace.prompt, trace.answer) == (problem.id, problem.prompt, problem.answer)


def test_short_thoughts_look_clauses_up_in_order_by_hand():
    clauses = [(-1, -2, -3), (-1, -2, 3), (1, 2, 3), (-1, 2, -3)]
    assert look_up_clauses(clauses, 3) == ("abc ABC+,abC ABc+,aBc AbC+,aBC Abc-", [1, -2, -3])
    thought, model = look_up_clauses(EIGHT, 3)
    assert model is None
    assert thought == "abc ABC+,abC ABc+,aBc AbC+,aBC Abc+,Abc aBC+,AbC aBc+,ABc abC+,ABC abc+"
    of_four = ("abc ABC+,abC ABc-,abCd ABD- AcD- BcD-", [1, 2, -3, 4])
    assert look_up_clauses([(-1, -2, -3)], 4) == of_four


def test_short_thoughts_say_of_each_clause_they_name_whether_there_is_one():
    for problem in problems(60, wording="short", max_vars=10):
        clauses = set(problem.prompt.split())
        steps = [step.split() for step in SAT.solve(problem).thought.split(",")]
        for prefix, *looked_up in steps:
            for entry in looked_up:
                assert set(entry[:-1].swapcase()) <= set(prefix) and prefix[-1].swapcase() in entry
                assert (entry[-1] == "+") == (entry[:-1] in clauses)
            assert all(entry[-1] == "-" for entry in looked_up[:-1])
        (last, *looked_up) = steps[-1]
        found = last if looked_up[-1][-1] == "-" else "none"
        assert SAT.solve(problem).solution == f"\\boxed{{{found}}}"


def test_full_thoughts_propagate_units_and_branch_by_hand():
    clauses = [(-1, -2, 3), (-1, -2, -3), (-1, 2, 3), (-1, 2, -3), (1, 2, 3)]
    thought, model = propagate_and_branch(clauses, 3)
    assert model == [-1, 2, 3]
    assert thought.splitlines()[1:] == [
        "Case x1 = True:",
        "Case x1 = True, x2 = True:",
        "Clause 1 (not x1 or not x2 or x3): x3 = True.",
        "Clause 2 (not x1 or not x2 or not x3) is false; this case fails.",
        "Case x1 = True, x2 = False:",
        "Clause 3 (not x1 or x2 or x3): x3 = True.",
        "Clause 4 (not x1 or x2 or not x3) is false; this case fails.",
        "Case x1 = False:",
        "Case x1 = False, x2 = True:",
        "Case x1 = False, x2 = True, x3 = True:",
        "Every variable has a value, and no clause is false.",
    ]
    assert propagate_and_branch(EIGHT, 3)[0].endswith("\nEvery case has failed.")


def test_literals_are_spelled_as_the_wordings_say():
    assert letters((1, -2, 3)) == "aBc"
    assert words((1, -2, 3)) == "(x1 or not x2 or x3)"


def test_equal_seeds_give_equal_sets_and_the_smallest_prompts_are_short():
    assert list(problems(30)) == list(problems(40))[:30]
    assert list(problems(30)) != list(problems(30, seed=1))
    small = problems(40, wording="short", min_vars=3, max_vars=3, cell="hard-many")
    assert max(len(problem.prompt) for problem in small) < 80
    assert len(list(PuzzleProblems(SAT, num=4, seed=0, split="test", min_vars=20, max_vars=20))) == 4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_vars": 2}, "3 <= min_vars"),
        ({"min_vars": 9, "max_vars": 8}, "min_vars=9, max_vars=8"),
        ({"max_vars": 21}, "<= 20"),
        ({"cell": "easy"}, "all or one of hard-many, hard-one, under, over"),
        ({"wording": "long"}, "full or short"),
    ],
)
def test_impossible_parameters_are_refused(parameters, message):
    with pytest.raises(UserError, match=message):
        problems(1, **parameters)


def test_another_kind_of_problem_is_not_solved():
    (problem,) = problems(1)
    for change in ({"answer": "7"}, {"answer": "{}"}, {"meta": {}}):
        with pytest.raises(UserError, match="not one of the puzzle 3sat"):
            SAT.solve(type(problem)(**{**problem.to_dict(), **change}))


def test_both_wordings_ask_the_same():
    full, short = problems(16, wording="full"), problems(16, wording="short")
    assert [problem.answer for problem in full] == [problem.answer for problem in short]
    assert all(len(a.prompt) > len(b.prompt) for a, b in zip(full, short, strict=True))
