"""Facts of FLenQA: what two of them yield, how they are said, and facts of the same kind that yield nothing.

Kinds of reasoning, in full and in short wording (people by their initials, other words by their first letters):

    relations   Alice is older than Ben. Ben is older than Clara.   AoB BoC   so Alice is older than Clara   AoC
    rooms       Alice is in the attic. The attic has red walls.     A@a a=r   so Alice has red walls around  A=r
    rules       Alice is kind. Alice is tall.  (kind, tall: rich)   A+k A+t   so Alice is rich               A+r
"""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from phi4r.evals.puzzles.words import PEOPLE, SURNAMES, capitalized

KINDS = ("relations", "rooms", "rules")

# fmt: off
RELATIONS = (  # every initial once, here and below
    "faster", "heavier", "louder", "older", "poorer", "richer", "stronger", "taller", "weaker", "younger",
)
ROOMS = (
    "attic", "basement", "cellar", "den", "gallery", "hall", "kitchen", "library", "nursery", "office", "pantry",
    "studio", "tower", "vault", "workshop",
)
COLOURS = (
    "amber", "blue", "copper", "green", "ivory", "lavender", "navy", "orange", "pink", "red", "silver", "turquoise",
    "violet", "white", "yellow",
)
PROPERTIES = (
    "brave", "clever", "famous", "generous", "happy", "kind", "loyal", "modest", "nervous", "polite", "quiet", "rich",
    "serious", "tall", "warm", "young",
)
_SIDES = (
    "north", "south", "east", "west", "upper", "lower", "old", "new", "front", "back", "small", "large", "main",
    "second", "third", "inner", "outer", "left", "right", "summer", "winter", "guest", "central", "round", "long",
    "narrow",
)
# fmt: on
_MAX_REPEATS = 50  # facts drawn in a row that were there already: few are left, so one of them is told again

_TELLINGS = {
    "than": (
        "{subject} is {object}.",
        "it is known that {subject} is {object}.",
        "everyone can see that {subject} is {object}.",
        "there is no doubt that {subject} is {object}.",
    ),
    "in": (
        "{subject} is in {object}.",
        "you will find {subject} in {object}.",
        "at the moment {subject} is in {object}.",
        "nobody but {subject} has the key to {object}, so there {subject} sits.",
    ),
    "walls": (
        "{subject} has {object} walls.",
        "the walls of {subject} are {object}.",
        "in {subject} all the walls are {object}.",
        "a painter gave {subject} its {object} walls.",
    ),
    "is": (
        "{subject} is {object}.",
        "it is known that {subject} is {object}.",
        "as a child and ever since, {subject} has been {object}.",
        "there is no doubt that {subject} is {object}.",
    ),
}


class Fact(NamedTuple):
    """One fact, in words and in letters.

    Attributes:
      how: which of the tellings fit it: "than", "in", "walls" or "is".
      subject: a person or a room.
      object: what is said of it.
      short: all of it in a few letters.
    """

    how: str
    subject: str
    object: str
    short: str

    def told(self, rng: random.Random) -> str:
        """Returns a sentence that states the fact."""
        return capitalized(rng.choice(_TELLINGS[self.how]).format(subject=self.subject, object=self.object))

    def plain(self) -> str:
        """Returns the plainest sentence that states the fact."""
        return capitalized(_TELLINGS[self.how][0].format(subject=self.subject, object=self.object))


class Names:
    """Full names, the same for the same person throughout a text.

    Attributes:
      people: the people that facts of padding may be about.
      rooms: the rooms that they may be about.
    """

    def __init__(self, rng: random.Random, people: Sequence[int], rooms: Sequence[int], *, short: bool):
        """Names the people and rooms of the key facts, and those of padding, which are others.

        Args:
          rng: of the text.
          people: that the key facts are about, indices of `PEOPLE`.
          rooms: that they are about, indices of `ROOMS`.
          short: whether one letter has to tell people, and rooms, apart.
        """
        self._surnames = {person: rng.choice(SURNAMES) for person in people}
        self._sides = {room: rng.choice(_SIDES) for room in rooms}
        surnames, sides = (SURNAMES[:1], _SIDES[:1]) if short else (SURNAMES, _SIDES)
        self.people = [f"{name} {surname}" for i, name in enumerate(PEOPLE) if i not in people for surname in surnames]
        self.rooms = [f"the {side} {room}" for i, room in enumerate(ROOMS) if i not in rooms for side in sides]
        rng.shuffle(self.people)

    def person(self, index: int) -> str:
        """Returns the full name of a person of the key facts."""
        return f"{PEOPLE[index]} {self._surnames[index]}"

    def room(self, index: int) -> str:
        """Returns the full name of a room of the key facts."""
        return f"the {self._sides[index]} {ROOMS[index]}"


def relation(word: str, first: str, second: str) -> Fact:
    """Returns that `first` is older (or what `word` says) than `second`."""
    return Fact("than", first, f"{word} than {second}", f"{first[0]}{word[0]}{second[0]}")


def whereabouts(person: str, room: str) -> Fact:
    """Returns that a person is in a room."""
    return Fact("in", person, room, f"{person[0]}@{_initial(room)}")


def walls(room: str, colour: str) -> Fact:
    """Returns that the walls of a room have a colour."""
    return Fact("walls", room, colour, f"{_initial(room)}={colour[0]}")


def surroundings(person: str, colour: str) -> Fact:
    """Returns that a person is in a room with walls of a colour."""
    return Fact("in", person, f"a room with {colour} walls", f"{person[0]}={colour[0]}")


def attribute(person: str, word: str) -> Fact:
    """Returns that a person is kind (or what `word` says)."""
    return Fact("is", person, word, f"{person[0]}+{word[0]}")


def resampled(rng: random.Random, kind: str, names: Names, word: str) -> Iterator[Fact]:
    """Yields facts of a kind without end, that contradict neither each other nor the key facts and yield nothing.

    They are about other people and rooms than the key facts. None comes twice before nearly all have come.

    Args:
      rng: of the text.
      kind: one of `KINDS`.
      names: of the text.
      word: the relation of the key facts.
    """
    seen: set[Fact] = set()
    home: dict[str, str] = {}
    colour: dict[str, str] = {}
    repeats = 0
    while True:
        if kind == "relations":  # the order of the list is the order of ages, so there is no contradiction
            first, second = sorted(rng.sample(range(len(names.people)), 2))
            fact = relation(word, names.people[first], names.people[second])
        elif kind == "rules":
            fact = attribute(rng.choice(names.people), rng.choice(PROPERTIES))
        elif rng.random() < 0.5:
            person = rng.choice(names.people)
            fact = whereabouts(person, home.setdefault(person, rng.choice(names.rooms)))
        else:
            room = rng.choice(names.rooms)
            fact = walls(room, colour.setdefault(room, rng.choice(COLOURS)))
        repeats = repeats + 1 if fact in seen else 0
        if fact not in seen or repeats > _MAX_REPEATS:
            seen.add(fact)
            yield fact


def _initial(room: str) -> str:
    return room.rpartition(" ")[2][0]
