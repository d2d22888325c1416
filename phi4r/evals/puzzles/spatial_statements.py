"""What statements like "the library is northeast of the bakery" entail, axis by axis.

Every statement says of two objects which one is farther east and which one is farther north. What follows from all of
them is, on either axis, their transitive closure; what is not in it is true of some maps and false of others.
"""

from collections.abc import Sequence
from typing import NamedTuple

DIRECTIONS: dict[str, tuple[int, int]] = {"NE": (1, 1), "NW": (-1, 1), "SE": (1, -1), "SW": (-1, -1)}  # east, north


class Statement(NamedTuple):
    """Object number `subject` lies in `direction` of object number `other`, strictly so on both axes."""

    subject: int
    direction: str
    other: int


class Finding(NamedTuple):
    """What is entailed of "X lies in this direction of Y".

    Attributes:
      holds: whether it is true of every map, or false of every map.
      chains: axes (0 for west to east, 1 for south to north) with chains of objects from low to high, each stated to
        be lower than the next: one for either axis that show it to be true, or the shortest one that refutes it.
    """

    holds: bool
    chains: tuple[tuple[int, list[int]], ...]


class Closure:
    """What statements about objects 0..num_objects-1 entail."""

    def __init__(self, statements: Sequence[Statement], num_objects: int):
        """Follows all chains of statements; they must not contradict each other."""
        self.objects = range(num_objects)
        self._farther: tuple[list[list[int]], list[list[int]]] = tuple(
            [[] for _ in range(num_objects)] for _ in range(2)
        )
        for statement in statements:
            for axis, sign in enumerate(DIRECTIONS[statement.direction]):
                low, high = (statement.other, statement.subject)[::sign]
                if high not in self._farther[axis][low]:
                    self._farther[axis][low].append(high)
        self._origins = tuple([self._search(axis, start) for start in range(num_objects)] for axis in range(2))

    def chain(self, axis: int, low: int, high: int) -> list[int] | None:
        """Returns a shortest chain of stated comparisons from `low` up to `high`, or None if none is entailed.

        Args:
          axis: 0 for west to east, 1 for south to north.
          low: the object said to be farther west or south.
          high: the object said to be farther east or north.
        """
        origins = self._origins[axis][low]
        if high not in origins or high == low:
            return None
        chain = [high]
        while chain[-1] != low:
            chain.append(origins[chain[-1]])
        return chain[::-1]

    def decide(self, subject: int, direction: str, other: int) -> Finding | None:
        """Returns whether `subject` lies in `direction` of `other`; None if that depends on the map."""
        signs = list(enumerate(DIRECTIONS[direction]))
        for_it = [(axis, self.chain(axis, *(other, subject)[::sign])) for axis, sign in signs]
        if all(chain for _, chain in for_it):
            return Finding(True, tuple(for_it))
        against = [(axis, self.chain(axis, *(subject, other)[::sign])) for axis, sign in signs]
        against = sorted((pair for pair in against if pair[1]), key=lambda pair: len(pair[1]))
        return Finding(False, tuple(against[:1])) if against else None

    def decide_all(self, direction: str, other: int) -> dict[int, Finding | None]:
        """Returns for every object but `other` whether it lies in `direction` of it."""
        return {subject: self.decide(subject, direction, other) for subject in self.objects if subject != other}

    def direction_of(self, subject: int, other: int) -> tuple[str, Finding] | None:
        """Returns the direction of `other` in which `subject` lies, with its proof; None if that depends on the map."""
        findings = [(direction, self.decide(subject, direction, other)) for direction in DIRECTIONS]
        return next(((direction, finding) for direction, finding in findings if finding and finding.holds), None)

    def _search(self, axis: int, start: int) -> dict[int, int]:
        """Returns for every object above `start` the one before it on a shortest chain."""
        origins, frontier = {start: start}, [start]
        for low in frontier:  # grows while it is walked: breadth first
            for high in self._farther[axis][low]:
                if high not in origins:
                    origins[high] = low
                    frontier.append(high)
        return origins
