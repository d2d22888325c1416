"""Words that puzzles are told with, sentences of prose made of them, and the number of their tokens.

All are common English words, which the vocabularies of today's models hold whole: one token a word or mark.
"""

import random
import re
from collections.abc import Iterator

_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")

# fmt: off
PEOPLE = (  # every initial once: short wordings write the initial
    "Alice", "Ben", "Clara", "Daniel", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack", "Kate", "Leo", "Maria",
    "Nina", "Oscar", "Paul", "Quinn", "Rosa", "Sam", "Tina", "Uma", "Victor", "Walter", "Xavier", "Yuri", "Zoe",
)
SURNAMES = (
    "Adams", "Baker", "Bell", "Brooks", "Carter", "Clark", "Cole", "Cooper", "Davis", "Dixon", "Ellis", "Evans",
    "Fisher", "Ford", "Foster", "Grant", "Gray", "Harris", "Hayes", "Hill", "Hunt", "Jones", "Kelly", "King", "Knight",
    "Lane", "Lewis", "Marsh", "Miller", "Moore", "Nash", "Nelson", "Page", "Parker", "Price", "Reed", "Ross", "Scott",
    "Stone", "Turner", "Walker", "Ward", "West", "Wood", "Young",
)

_OPENINGS = (
    "in the early morning", "late at night", "after the first snow", "before the harvest", "during the long winter",
    "at the end of summer", "when the bells rang", "just before noon", "on the second day", "after a short break",
    "in that dry season", "soon after the war", "for most of the week", "at the turn of the year", "toward the evening",
)
_SUBJECTS = (
    "the river", "the road", "the harbor", "the market", "the valley", "the village", "the garden", "the bridge",
    "the forest", "the station", "the theatre", "the museum", "the factory", "the farm", "the hotel", "the school",
    "the church", "the square", "the island", "the coast", "the lake", "the mountain", "the desert", "the beach",
    "the port", "the orchestra", "the festival", "the bakery", "the newspaper", "the train", "the ferry", "the boat",
    "the wagon", "the bus", "the crowd", "the choir", "the fog", "the snow", "the rain", "the wind", "the storm",
    "the moon", "the sun", "the dust", "the smoke", "the fire", "the clock", "the bell", "the lamp", "the mill",
    "the barn", "the fence", "the gate", "the wall", "the roof",
)
_VERBS = (
    "drifted", "moved", "waited", "settled", "turned", "rested", "rolled", "floated", "disappeared", "appeared",
    "vanished", "rang", "sounded", "stood", "remained", "opened", "closed", "grew", "changed", "passed", "stopped",
    "returned", "arrived", "departed", "spread", "rose", "fell", "shook", "slept", "lay", "stayed", "flowed",
    "wandered", "gathered", "faded", "echoed",
)
_MANNERS = (
    "slowly", "quietly", "suddenly", "again", "briefly", "softly", "steadily", "gently", "gradually", "heavily",
    "freely", "silently", "calmly", "patiently",
)
_PLACES = (
    "behind the hills", "beyond the old wall", "near the water", "under the trees", "along the narrow path",
    "across the fields", "over the roofs", "beside the empty barn", "between the two towers", "above the town",
    "around the lake", "against the rocks", "below the castle", "through the open gate", "past the last houses",
    "inside the ruins",
)
# fmt: on
_SENTENCES = (
    "{opening}, {subject} {verb} {manner} {place}.",
    "{subject} {verb} {place}, and {other} {also} {manner}.",
    "{subject} {verb} {manner} while {other} {also} {place}.",
    "{place}, {subject} {verb} {manner}.",
    "{opening}, nobody noticed how {subject} {verb} {place}.",
    "{subject} {verb}, {other} {also}, and {opening} it all ended.",
)


def num_tokens(text: str) -> int:
    """Returns how many tokens a text of these words has, by estimate: its words and punctuation marks."""
    return len(_WORD_OR_MARK.findall(text))


def capitalized(sentence: str) -> str:
    """Returns a sentence with a capital first letter, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def prose(rng: random.Random) -> Iterator[str]:
    """Yields sentences without end and without repeats; there are tens of millions."""
    seen = set()
    while True:
        subject, other = rng.sample(_SUBJECTS, 2)
        sentence = rng.choice(_SENTENCES).format(
            opening=rng.choice(_OPENINGS),
            subject=subject,
            other=other,
            verb=rng.choice(_VERBS),
            also=rng.choice(_VERBS),
            manner=rng.choice(_MANNERS),
            place=rng.choice(_PLACES),
        )
        if sentence not in seen:
            seen.add(sentence)
            yield capitalized(sentence)
