import collections
import itertools
import json
import random
import re

import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree

from phi4r.errors import UserError
from phi4r.evals.puzzles.puzzle import PuzzleProblems
from phi4r.evals.puzzles.tsp import TSP, draw, shortest_tour
from phi4r.evals.puzzles.tsp_search import BranchAndBound, list_tours, nearest_neighbour_tour, shorten

# The square 0-1-2-3 with sides 1, 2, 3, 4 and diagonals 9: tours of length 10 (round), 22 and 24 (crossing).
SQUARE = [[0, 1, 9, 4], [1, 0, 2, 9], [9, 2, 0, 3], [4, 9, 3, 0]]


def problems(num, *, seed=0, split="test", **parameters):
    return PuzzleProblems(TSP, num=num, seed=seed, split=split, **parameters)


def length(weights, tour):
    return sum(weights[a][b] for a, b in itertools.pairwise(tour))


def tours(num_cities):
    """Every tour, by brute force."""
    return ([0, *order, 0] for order in itertools.permutations(range(1, num_cities)))


def random_weights(rng, num_cities, largest):
    graph = draw(rng, 0, min_cities=num_cities, max_cities=num_cities, max_weight=largest, wording="full")
    return np.array(graph.weights)


@pytest.mark.parametrize(("num_cities", "graphs"), [(4, 60), (5, 60), (6, 40), (7, 15), (8, 4)])
def test_the_optimum_is_that_of_brute_force(num_cities, graphs):
    rng = random.Random(num_cities)
    for index in range(graphs):
        weights = random_weights(rng, num_cities, largest=(3, 30, 1000)[index % 3])
        tour = shortest_tour(weights)
        assert sorted(tour[1:]) == list(range(num_cities)) and tour[0] == tour[-1] == 0
        assert length(weights, tour) == min(length(weights, other) for other in tours(num_cities))


def test_the_optimum_of_13_cities_is_found_where_it_is_known():
    order = [0, *random.Random(3).sample(range(1, 13), 12)]
    weights = np.full((13, 13), 5)
    for a, b in itertools.pairwise([*order, 0]):
        weights[a, b] = weights[b, a] = 2
    tour = shortest_tour(weights)
    assert tour in ([*order, 0], [0, *order[:0:-1], 0])


def test_the_evaluation_set_is_balanced_and_its_distances_are_in_range():
    rows = list(problems(160))
    assert collections.Counter(row.meta["level"] for row in rows) == dict.fromkeys(range(1, 9), 20)
    for row in rows:
        weights = np.array(json.loads(row.answer)["weights"])
        level = row.meta["level"]
        assert len(weights) == row.meta["num_cities"] == level + 5
        off_diagonal = weights[~np.eye(len(weights), dtype=bool)]
        assert (weights == weights.T).all() and not weights.diagonal().any()
        assert off_diagonal.min() >= 1 and off_diagonal.max() <= 10 * level - 1
    largest = [np.max(json.loads(row.answer)["weights"]) for row in rows if row.meta["level"] == 1]
    assert max(largest) == 9
    ones = [json.loads(row.answer)["weights"] for row in problems(8, max_weight=2)]
    assert {weight for weights in ones for row in weights for weight in row} == {0, 1, 2}


def read_prompt(problem):
    """Reads the distances back from a prompt."""
    if problem.meta["wording"] == "short":
        pairs = re.findall(r" ([a-z])([a-z])(\d+)", problem.prompt)
        roads = [(ord(a) - 97, ord(b) - 97, int(weight)) for a, b, weight in pairs]
    else:
        roads = [tuple(map(int, road)) for road in re.findall(r"(\d+)-(\d+): (\d+)", problem.prompt)]
    weights = [[0] * problem.meta["num_cities"] for _ in range(problem.meta["num_cities"])]
    for a, b, weight in roads:
        weights[a][b] = weights[b][a] = weight
    return weights


@pytest.mark.parametrize("wording", ["full", "short"])
def test_the_prompt_shows_the_distances_of_the_reference(wording):
    for problem in problems(24, wording=wording):
        assert read_prompt(problem) == json.loads(problem.answer)["weights"]


@pytest.mark.parametrize("wording", ["full", "short"])
def test_the_verifier_accepts_every_worked_solution(wording):
    verifier = TSP.make_verifier(True)
    sizes = {"min_cities": 4, "max_cities": 7} if wording == "short" else {}
    for problem in problems(200, split="train", wording=wording, **sizes):
        trace = TSP.solve(problem)
        verdict = verifier(trace.messages()[-1]["content"], problem.answer)
        assert verdict.correct and verdict.parts == {"ratio": 1.0, "valid": 1.0}
        assert (trace.id, trace.prompt, trace.answer) == (problem.id, problem.prompt, problem.answer)


def test_short_thoughts_list_tours_and_break_long_ones_off_by_hand():
    assert list_tours(SQUARE) == ("ab1c3d6a10,ab1d10,ac9b11,ac9d12,ad4b13", [0, 1, 2, 3, 0])
    other = [[0, 9, 1, 4], [9, 0, 2, 3], [1, 2, 0, 9], [4, 3, 9, 0]]
    assert list_tours(other) == ("ab9c11d20a24,ab9d12c21a22,ac1b3d6a10,ac1d10,ad4c13", [0, 2, 1, 3, 0])


CASE = re.compile(
    r"(?:All roads|Without (?P<without>[\d, -]+)): prices (?P<prices>[-\d ]+); roads (?P<roads>[-\d, ]+); "
    r"(?P<sum>-?\d+) - (?P<twice>-?\d+) = (?P<bound>-?\d+)\."
)


def test_the_bounds_in_full_thoughts_hold_and_decide():
    rng = random.Random(5)
    for index in range(30):
        weights = random_weights(rng, 5 + index % 3, largest=(3, 9, 50)[index % 3])
        search = BranchAndBound(weights.tolist())
        search.run()
        every_tour = [(length(weights, tour), tour) for tour in tours(len(weights))]
        assert length(weights, search.tour) == min(every_tour)[0]
        for case in filter(None, map(CASE.fullmatch, search.lines)):
            check_case(case, weights, every_tour)


def check_case(case, weights, every_tour):
    """Checks a line of a thought: its arithmetic, its tree against scipy's, its bound against all tours."""
    left_out = {tuple(map(int, road.split("-"))) for road in (case["without"] or "").split(", ") if road}
    prices = np.array(list(map(int, case["prices"].split())))
    priced = weights + prices[:, None] + prices[None, :]
    roads = [
        tuple(map(int, re.split("[- ]", road, maxsplit=2))) for road in re.findall(r"\d+-\d+ -?\d+", case["roads"])
    ]
    assert not left_out & {road[:2] for road in roads} and len(roads) == len(weights)
    assert all(priced[a, b] == value for a, b, value in roads)
    assert sum(road[2] for road in roads) == int(case["sum"]) and 2 * prices.sum() == int(case["twice"])
    assert int(case["sum"]) - int(case["twice"]) == int(case["bound"])
    allowed = priced.astype(float) + 10_000  # no edge may look absent, which is what 0 means to scipy
    for a, b in left_out:
        allowed[a, b] = allowed[b, a] = 1e7
    tree = minimum_spanning_tree(np.triu(allowed[1:, 1:], k=1)).toarray()
    cheapest = tree.sum() + np.sort(allowed[0, 1:])[:2].sum() - 10_000 * len(weights)
    assert int(case["sum"]) == cheapest
    admitted = [
        size for size, tour in every_tour if not left_out & {(min(r), max(r)) for r in itertools.pairwise(tour)}
    ]
    assert int(case["bound"]) <= min(admitted, default=int(case["bound"]))


def test_first_tours_by_hand():
    assert nearest_neighbour_tour(SQUARE, 1) == [1, 0, 3, 2, 1]
    assert shorten(SQUARE, [0, 2, 1, 3, 0]) == [[0, 1, 2, 3, 0]]
    assert shorten(SQUARE, [0, 1, 2, 3, 0]) == []


def test_equal_seeds_give_equal_sets_and_the_smallest_prompts_are_short():
    assert list(problems(16)) == list(problems(20))[:16]
    assert list(problems(16)) != list(problems(16, seed=1))
    assert problems(1, wording="short", min_cities=4, max_cities=4)[0].prompt.startswith("tsp ab")
    assert len(problems(1, wording="short", min_cities=4, max_cities=4)[0].prompt) < 40
    assert problems(1, min_cities=4, max_cities=4)[0].meta["level"] == -1
    assert problems(1, min_cities=16, max_cities=16)[0].meta["num_cities"] == 16


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_cities": 3}, "4 <= min_cities"),
        ({"min_cities": 9, "max_cities": 8}, "min_cities=9, max_cities=8"),
        ({"max_cities": 19}, "<= 18"),
        ({"max_weight": -1}, "max_weight from 1"),
        ({"max_weight": 1_000_001}, "max_weight from 1"),
        ({"wording": "long"}, "full or short"),
    ],
)
def test_impossible_parameters_are_refused(parameters, message):
    with pytest.raises(UserError, match=message):
        problems(1, **parameters)


def test_solutions_of_no_use_and_other_kinds_of_problem_are_refused():
    (problem,) = problems(1, wording="short", min_cities=9, max_cities=9)
    with pytest.raises(UserError, match="max_cities=8"):
        TSP.solve(problem)
    with pytest.raises(UserError, match="larger max_weight"):
        for alike in problems(8, min_cities=14, max_cities=14, max_weight=3):
            TSP.solve(alike)
    for change in ({"answer": "7"}, {"answer": "{}"}, {"meta": {}}):
        with pytest.raises(UserError, match="not one of the puzzle tsp"):
            TSP.solve(type(problem)(**{**problem.to_dict(), **change}))


def test_both_wordings_ask_the_same():
    full, short = problems(16, wording="full"), problems(16, wording="short")
    assert [problem.answer for problem in full] == [problem.answer for problem in short]
    assert all(len(a.prompt) > len(b.prompt) for a, b in zip(full, short, strict=True))
