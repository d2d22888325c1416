"""TSP-Opt: find a shortest closed tour through the cities of a complete graph with whole distances.

Level k = 1..8 has k + 5 cities. The law of the distances is not in the paper: here they are uniform on
1..w_max(level), independent of each other, with w_max = 10 k - 1 (9, 19, ..., 79) and at least 9. The optimum is exact
(Held and Karp 1962).
"""

import dataclasses
import functools
import json
import random
from typing import Any

import numpy as np

from phi4r.data.records import Problem, Trace
from phi4r.errors import UserError
from phi4r.evals.puzzles.puzzle import Puzzle
from phi4r.evals.puzzles.tsp_search import BranchAndBound, arrows, list_tours
from phi4r.verifiers.tours import TourVerifier, tour_length

MAX_CITIES = 18  # 2^17 sets of cities: half a second and 60 MB
MAX_WEIGHT = 1_000_000
MAX_LISTED = 8  # cities of which short wording can list the tours: 2,520
_FAR = np.iinfo(np.int64).max // 2


@dataclasses.dataclass(frozen=True)
class Graph:
    """Distances [n n], symmetric, zero on the diagonal."""

    weights: tuple[tuple[int, ...], ...]


def level_of(num_cities: int) -> int:
    """Returns the level of the benchmark, 1 for 6 cities; below that come 0 and -1."""
    return num_cities - 5


def largest_weight(num_cities: int) -> int:
    """Returns w_max of a level: 9 up to level 1, then 10 more each."""
    return 10 * max(1, level_of(num_cities)) - 1


def draw(rng: random.Random, index: int, *, min_cities: int, max_cities: int, max_weight: int, wording: str) -> Graph:
    """Draws the distances between as many cities as have their turn.

    Raises:
      UserError: for parameters without graphs.
    """
    _check(min_cities, max_cities, max_weight, wording)
    num_cities = min_cities + index % (max_cities - min_cities + 1)
    largest = max_weight or largest_weight(num_cities)
    weights = [[0] * num_cities for _ in range(num_cities)]
    for a in range(num_cities):
        for b in range(a + 1, num_cities):
            weights[a][b] = weights[b][a] = rng.randint(1, largest)
    return Graph(tuple(map(tuple, weights)))


def pose(graph: Graph, *, wording: str, **_: Any) -> tuple[str, str, dict[str, Any]]:
    """Returns the question, the reference of `TourVerifier`, and what the graph is like."""
    tour = shortest_tour(np.array(graph.weights))
    optimum = tour_length(graph.weights, tour)
    num_cities = len(graph.weights)
    meta = {"level": level_of(num_cities), "num_cities": num_cities, "optimum": optimum, "wording": wording}
    prompt = _short_prompt(graph) if wording == "short" else _full_prompt(graph)
    return prompt, json.dumps({"weights": graph.weights, "optimum": optimum, "tours": [tour]}), meta


def shortest_tour(weights: np.ndarray) -> list[int]:
    """Returns a shortest tour from city 0 and back, by dynamic programming over sets of the other cities.

    The length of the shortest path from 0 through a set S to one of its cities j is the least over i of the one through
    S - {j} to i, and the road from i to j. Sets of one size are done together.

    Args:
      weights: [n n] int, symmetric; n is 3 or more.
    """
    num_others = len(weights) - 1
    between = weights[1:, 1:].astype(np.int64)
    lengths = np.full((1 << num_others, num_others), _FAR, np.int64)
    for j in range(num_others):
        lengths[1 << j, j] = weights[0, j + 1]
    for j, sets in _sets_by_size(num_others):
        lengths[sets, j] = (lengths[sets ^ (1 << j)] + between[j][None]).min(axis=1)
    visited = (1 << num_others) - 1
    back = [int(np.argmin(lengths[visited] + weights[1:, 0]))]
    while len(back) < num_others:
        visited ^= 1 << back[-1]
        back.append(int(np.argmin(lengths[visited] + between[back[-1]])))
    return [0, *(j + 1 for j in back), 0]


@functools.lru_cache
def _sets_by_size(num_others: int) -> list[tuple[int, np.ndarray]]:
    """Returns (j, the sets of two or more cities with j as bits), all sets of one size before those of the next."""
    sets = np.arange(1 << num_others)
    has = sets[None] >> np.arange(num_others)[:, None] & 1 == 1  # [n - 1, 2^(n - 1)]
    sizes = has.sum(axis=0)
    return [(j, sets[has[j] & (sizes == size)]) for size in range(2, num_others + 1) for j in range(num_others)]


def _check(min_cities: int, max_cities: int, max_weight: int, wording: str) -> None:
    if not 4 <= min_cities <= max_cities <= MAX_CITIES:
        raise UserError(
            f"tsp needs 4 <= min_cities <= max_cities <= {MAX_CITIES}, not min_cities={min_cities}, "
            f"max_cities={max_cities}."
        )
    if not 0 <= max_weight <= MAX_WEIGHT:
        raise UserError(f"tsp needs max_weight from 1 to {MAX_WEIGHT}, or 0 for that of the level, not {max_weight}.")
    if wording not in ("full", "short"):
        raise UserError(f"tsp has no wording {wording!r}; take full or short.")


def _letter(city: int) -> str:
    return chr(ord("a") + city)


def _short_prompt(graph: Graph) -> str:
    cities = range(len(graph.weights))
    return "tsp " + " ".join(f"{_letter(a)}{_letter(b)}{graph.weights[a][b]}" for a in cities for b in cities[a + 1 :])


def _full_prompt(graph: Graph) -> str:
    num_cities = len(graph.weights)
    rows = [
        ", ".join(f"{a}-{b}: {graph.weights[a][b]}" for b in range(a + 1, num_cities)) for a in range(num_cities - 1)
    ]
    distances = "\n".join(rows)
    return f"""\
A traveller starts at one of {num_cities} cities, numbered 0 to {num_cities - 1}, visits each of the others exactly \
once and returns to where the tour began. Every two cities are joined by a road. These are the distances, the same in \
both directions:

{distances}

Find a tour of the least total distance. End your response with the cities in the order of the tour, with city 0 both \
first and last, and with the total distance, in exactly this form:
<final_answer>{{'Path': '0->...->0', 'TotalDistance': 'INT'}}</final_answer>"""


def _from_zero(tour: list[int]) -> list[int]:
    """Returns the same closed tour from city 0."""
    start = tour.index(0)
    return [*tour[start:-1], *tour[:start], 0]


def solve(problem: Problem) -> Trace:
    """Writes the search for the shortest tour: bounds and cases in full wording, all tours in short wording.

    Raises:
      UserError: if `problem` is not one of this puzzle, or its worked solution would be too long to be of use.
    """
    try:
        weights, wording = json.loads(problem.answer)["weights"], problem.meta["wording"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"problem {problem.id} is not one of the puzzle tsp; make it with PuzzleProblems.") from error
    if wording == "short" and len(weights) > MAX_LISTED:
        raise UserError(
            f"a short solution lists all tours, too many of {len(weights)} cities; "
            f"take max_cities={MAX_LISTED} or wording=full."
        )
    if wording == "short":
        thought, tour = list_tours(weights)
        solution = f"\\boxed{{{''.join(map(_letter, tour))}}}"
    else:
        search = BranchAndBound(weights)
        search.run()
        thought, tour = "\n".join(search.lines), _from_zero(search.tour)
        answer = f"{{'Path': '{arrows(tour)}', 'TotalDistance': '{tour_length(weights, tour)}'}}"
        solution = f"This tour is as short as any.\n<final_answer>{answer}</final_answer>"
    return Trace(problem.id, problem.prompt, thought, solution, problem.answer, dict(problem.meta))


TSP = Puzzle(
    name="tsp",
    title="TSP-Opt",
    draw=draw,
    pose=pose,
    make_verifier=TourVerifier,
    parameters={"min_cities": 6, "max_cities": 13, "max_weight": 0, "wording": "full"},
    num_items=800,
    groups=("level",),
    level="num_cities",
    solve=solve,
)
