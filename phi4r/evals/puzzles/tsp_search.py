"""Searches for the shortest tour that are written out: the thoughts of worked solutions.

A tour is a list of cities that begins and ends at city 0. In full wording city 2 is `2`, in short wording `c`.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from phi4r.errors import UserError
from phi4r.verifiers.tours import tour_length

Weights = Sequence[Sequence[int]]  # symmetric, positive off the diagonal
Road = tuple[int, int]

_ASCENT_STEPS = 40
_COOLING = 5  # ascent steps after which the step of the prices shrinks by a third
_MAX_CASES = 500  # of a proof that is worth reading; those of the benchmark's own graphs have a tenth of that


def list_tours(weights: Weights) -> tuple[str, list[int]]:
    """Looks at all tours in the order abcd..., abdc..., each in one of its two directions.

    Returns:
      the thought and the shortest tour. The thought writes each tour as cities and the length so far,
      `ab3c8d10a12`, separated by commas; one that grows as long as the shortest before it is broken off. So the last
      tour that is written whole is the shortest.
    """
    steps: list[str] = []
    best: list[int] = []
    shortest: int | None = None

    def extend(tour: list[int], length: int, written: str) -> None:
        nonlocal best, shortest
        for city in range(1, len(weights)) if len(tour) < len(weights) else (0,):
            if city in tour[1:] or (city == 0 and tour[1] > tour[-1]):
                continue
            longer = length + weights[tour[-1]][city]
            entry = f"{written}{chr(ord('a') + city)}{longer}"
            if shortest is not None and longer >= shortest:
                steps.append(entry)
            elif city == 0:
                steps.append(entry)
                best, shortest = [*tour, 0], longer
            else:
                extend([*tour, city], longer, entry)

    extend([0], 0, "a")
    return ",".join(steps), best


def nearest_neighbour_tour(weights: Weights, start: int) -> list[int]:
    """Returns the tour from `start` that goes to the nearest city not yet visited, the first of equals."""
    tour = [start]
    while len(tour) < len(weights):
        left = [city for city in range(len(weights)) if city not in tour]
        tour.append(min(left, key=lambda city: weights[tour[-1]][city]))
    return [*tour, start]


def shorten(weights: Weights, tour: list[int]) -> list[list[int]]:
    """Turns stretches of a tour round for as long as that makes it shorter (2-opt).

    Returns:
      the tours on the way, none if nothing helps.
    """
    for i, j in itertools.combinations(range(1, len(tour)), 2):
        turned = tour[:i] + tour[i:j][::-1] + tour[j:]
        if tour_length(weights, turned) < tour_length(weights, tour):
            return [turned, *shorten(weights, turned)]
    return []


@dataclasses.dataclass(frozen=True)
class OneTree:
    """A spanning tree of the cities but 0 and two roads at city 0, cheapest under prices.

    Attributes:
      roads: n of them, as many as a tour has.
      prices: added to each road once at each of its ends.
      bound: length of the roads with prices, less twice the sum of prices. No tour is shorter: with prices every tour
        is longer by twice their sum, and every tour is a 1-tree (Held and Karp 1970).
      degrees: roads at each city; all are 2 if, and only if, the 1-tree is a tour.
    """

    roads: list[Road]
    prices: list[int]
    bound: int
    degrees: list[int]

    @property
    def is_tour(self) -> bool:
        """Whether it is a tour, then the shortest one there is."""
        return set(self.degrees) == {2}


class BranchAndBound:
    """Writes down why a tour is the shortest: bounds by 1-trees, and cases that leave out roads.

    Attributes:
      tour: the shortest so far; it begins anywhere.
      lines: of the thought. Prices are a choice and come from nowhere, all else can be checked from the distances.
    """

    def __init__(self, weights: Weights):
        """Starts from the best of the tours of nearest neighbours, made shorter by turning stretches round."""
        self._weights = weights
        self._cities = range(len(weights))
        self._largest = max(map(max, weights))
        # So long that a 1-tree has a left-out road only if there is none without.
        self._left_out = 1000 * len(weights) * self._largest
        self._num_cases = 0
        self._done: list[set[Road]] = []  # the roads left out of cases that are settled
        self.lines = ["From each city, go to the nearest; then turn stretches round while that is shorter."]
        self.tour = min(map(self._start, self._cities), key=lambda tour: tour_length(weights, tour))
        self._shortest = tour_length(weights, self.tour)
        self.lines += [
            f"Shortest so far: {arrows(self.tour)}, length {self._shortest}.",
            "Bound: a tour is a path through all cities but 0, and two roads at city 0. So no tour is shorter than the "
            "cheapest tree over the other cities and the two cheapest roads at city 0. A price at a city is added to "
            "all its roads; a tour grows by twice the sum of the prices, which is taken off again.",
        ]

    def run(self) -> None:
        """Goes through the cases; then `tour` is the shortest and `lines` say why.

        Raises:
          UserError: if there are more than 500.
        """
        self._case((), [list(row) for row in self._weights], [0 for _ in self._cities])
        self.lines.append(f"No case is left: the shortest tour is {arrows(self.tour)}, length {self._shortest}.")

    def _start(self, city: int) -> list[int]:
        """Returns a tour that begins anywhere, and writes how it came to be."""
        first = nearest_neighbour_tour(self._weights, city)
        tours = [first, *shorten(self._weights, first)]
        self.lines.append("; ".join(f"{arrows(tour)} {tour_length(self._weights, tour)}" for tour in tours))
        return tours[-1]

    def _case(self, left_out: tuple[Road, ...], weights: list[list[int]], prices: list[int]) -> None:
        """Settles whether a tour without the roads `left_out` is shorter than the shortest so far."""
        if any(done <= set(left_out) for done in self._done):
            return
        self._num_cases += 1
        if self._num_cases > _MAX_CASES:
            raise UserError(
                f"these {len(self._cities)} cities need more than {_MAX_CASES} cases to show which tour is shortest: "
                "many tours are about as long; take fewer cities or a larger max_weight for worked solutions."
            )
        self._settle(left_out, weights, self._ascend(weights, prices))
        self._done.append(set(left_out))

    def _settle(self, left_out: tuple[Road, ...], weights: list[list[int]], tree: OneTree) -> None:
        name = f"Without {_list_roads(left_out)}" if left_out else "All roads"
        if any(weights[a][b] == self._left_out for a, b in tree.roads):
            self.lines.append(f"{name}: the other roads leave no such tree, so no tour.")
            return
        priced = [weights[a][b] + tree.prices[a] + tree.prices[b] for a, b in tree.roads]
        self.lines.append(
            f"{name}: prices {' '.join(map(str, tree.prices))}; roads "
            + ", ".join(f"{a}-{b} {length}" for (a, b), length in zip(tree.roads, priced, strict=True))
            + f"; {sum(priced)} - {2 * sum(tree.prices)} = {tree.bound}."
        )
        if tree.bound >= self._shortest:
            self.lines.append(f"Not below {self._shortest}.")
        elif tree.is_tour:
            self.tour, self._shortest = _as_tour(tree.roads), tree.bound
            self.lines.append(f"They form a tour, shorter than before: {arrows(self.tour)}.")
        else:
            self._branch(left_out, weights, tree)

    def _branch(self, left_out: tuple[Road, ...], weights: list[list[int]], tree: OneTree) -> None:
        """Goes on with three cases: of any three roads at one city a tour leaves out at least one."""
        crowded = max(self._cities, key=lambda city: tree.degrees[city])
        roads = [road for road in tree.roads if crowded in road]
        roads.sort(key=lambda road: -weights[road[0]][road[1]] - tree.prices[road[0]] - tree.prices[road[1]])
        self.lines.append(f"A tour has two roads at {crowded}: it leaves out one of {_list_roads(roads[:3])}.")
        for a, b in roads[:3]:
            without = [list(row) for row in weights]
            without[a][b] = without[b][a] = self._left_out
            self._case((*left_out, (a, b)), without, tree.prices)

    def _ascend(self, weights: list[list[int]], prices: list[int]) -> OneTree:
        """Raises the bound: cities with too many roads become dearer, those with one road cheaper.

        Stops where the bound decides the case: it reaches the shortest length, or the 1-tree is a tour.
        """
        best = None
        step = max(1, self._largest // 6)
        for number in range(1, _ASCENT_STEPS + 1):
            tree = _one_tree(weights, prices)
            if best is None or tree.bound > best.bound:
                best = tree
            if tree.bound >= self._shortest or tree.is_tour:
                return tree
            prices = [price + step * (degree - 2) for price, degree in zip(prices, tree.degrees, strict=True)]
            if number % _COOLING == 0:
                step = max(1, step * 2 // 3)
        return best


def _one_tree(weights: Weights, prices: list[int]) -> OneTree:
    """Returns the cheapest 1-tree: Prim's tree over the cities from 1, and two roads at city 0."""

    def length(road: Road) -> int:
        return weights[road[0]][road[1]] + prices[road[0]] + prices[road[1]]

    roads: list[Road] = []
    nearest = {city: (1, city) for city in range(2, len(weights))}  # the cheapest road from the tree to each city
    while nearest:
        added = min(nearest, key=lambda city: (length(nearest[city]), city))
        roads.append(nearest.pop(added))
        for city in nearest:
            nearest[city] = min(nearest[city], (min(added, city), max(added, city)), key=length)
    roads += sorted(((0, city) for city in range(1, len(weights))), key=length)[:2]
    degrees = [sum(city in road for road in roads) for city in range(len(weights))]
    return OneTree(roads, prices, sum(map(length, roads)) - 2 * sum(prices), degrees)


def _as_tour(roads: list[Road]) -> list[int]:
    """Returns the cities along roads that form a tour, from 0 and back."""
    left, tour = list(roads), [0]
    while left:
        road = next(road for road in left if tour[-1] in road)
        left.remove(road)
        tour.append(road[0] if road[1] == tour[-1] else road[1])
    return tour


def arrows(tour: Sequence[int]) -> str:
    """Returns a tour in full wording: `0->2->1->0`."""
    return "->".join(map(str, tour))


def _list_roads(roads: Sequence[Road]) -> str:
    return ", ".join(f"{a}-{b}" for a, b in roads)
