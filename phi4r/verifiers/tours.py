r"""The verifier of travelling salesman problems: any closed tour of optimal length is right.

full     <final_answer>{'Path': '0->3->1->2->0', 'TotalDistance': '17'}</final_answer>    the distance is ignored
short    \boxed{adbca}    cities as letters
"""

import itertools
import json
import re
from dataclasses import dataclass
from typing import Any

from phi4r.verifiers.tagged import tagged_answer
from phi4r.verifiers.verdict import Verdict, failed, judged, unanswered

Matrix = list[list[int]]

_LETTERS = re.compile(r"[a-z]+")
_ARROW = re.compile(r"->|→|,")
_CITY = re.compile(r"[0-9]{1,3}")


@dataclass(frozen=True)
class TourVerifier:
    """Judges a closed tour against the weights of a complete symmetric graph.

    The reference is JSON, `{"weights": [[0, 5, ...], ...], "optimum": 17, "tours": [[0, 3, 1, 2, 0], ...]}`. Right is
    every Hamiltonian cycle of the optimal length, wherever it begins and whichever way it goes. The parts are
    "valid" (1 for a Hamiltonian cycle) and "ratio" (optimum / length of a valid tour, else 0); the score is 1 or 0.

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
      compat: accept only the tours listed in the reference, as the scorer of the published benchmark does.
    """

    thinking: bool = False
    compat: bool = False

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict, in microseconds; a reference that is no such graph is an "error"."""
        answer = tagged_answer(response, "Path", thinking=self.thinking)
        if answer is None:
            return unanswered()
        graph = _graph(reference)
        if graph is None:
            return failed("error", answer.text)
        weights, optimum, tours = graph
        tour = None if answer.value is None else read_tour(answer.value)
        if tour is None or not is_tour(tour, len(weights)):
            return judged(answer.text, False, parts={"ratio": 0.0, "valid": 0.0})
        length = tour_length(weights, tour)
        if length < optimum:  # the reference is wrong, and the answer proves it
            return failed("error", answer.text)
        correct = tour in tours if self.compat else length == optimum
        return judged(answer.text, correct, parts={"ratio": optimum / length, "valid": 1.0})

    def quick(self, response: str, reference: str) -> Verdict:
        """Returns the verdict: every one is cheap."""
        return self(response, reference)

    def warm_up(self) -> None:
        """Has nothing to load."""


def read_tour(text: str) -> list[int] | None:
    """Reads `0->3->1->0` (or with commas), or letters (`adba`), as the numbers of cities; None for anything else."""
    if _LETTERS.fullmatch(text):
        return [ord(letter) - ord("a") for letter in text]
    stops = [stop.strip() for stop in _ARROW.split(text)]
    return [int(stop) for stop in stops] if all(map(_CITY.fullmatch, stops)) else None


def is_tour(stops: list[int], num_cities: int) -> bool:
    """Whether the stops visit each of the cities 0..num_cities-1 once and end where they began."""
    return stops[0] == stops[-1] and sorted(stops[1:]) == list(range(num_cities))


def tour_length(weights: Matrix, stops: list[int]) -> int:
    """Returns the sum of the weights from stop to stop."""
    return sum(weights[a][b] for a, b in itertools.pairwise(stops))


def _graph(reference: str) -> tuple[Matrix, int, list[list[int]]] | None:
    """Returns weights, optimum and listed tours; None for a malformed reference."""
    try:
        values = json.loads(reference)
        weights, optimum, tours = values["weights"], values["optimum"], values["tours"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    well_formed = type(optimum) is int and optimum > 0 and isinstance(tours, list) and _is_symmetric(weights)
    return (weights, optimum, tours) if well_formed else None


def _is_symmetric(weights: Any) -> bool:
    """Whether this is a square symmetric matrix of integers, positive off its diagonal."""
    if not isinstance(weights, list) or len(weights) < 2:
        return False
    if not all(isinstance(row, list) and len(row) == len(weights) for row in weights):
        return False
    if not all(type(weight) is int for row in weights for weight in row):
        return False
    cities = range(len(weights))
    return all(weights[a][b] == weights[b][a] > 0 for a in cities for b in range(a))
