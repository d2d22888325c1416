"""Multiple-choice questions: how options are shown, and the reference that `ChoiceVerifier` reads."""

import json
import random
import string
from collections.abc import Sequence

ANSWER_FORMAT = "Finish with the letter of the right option in a box, as in \\boxed{A}."

_NUM_COUNTS = 4


def lettered(options: Sequence[str]) -> str:
    """Returns one line an option: `A. red`."""
    return "\n".join(f"{letter_of(index)}. {option}" for index, option in enumerate(options))


def letter_of(index: int) -> str:
    """Returns the letter of option number `index`, from 0."""
    return string.ascii_uppercase[index]


def choice_prompt(question: str, options: Sequence[str]) -> str:
    """Returns a prompt that asks for the letter of one of `options`."""
    return f"{question}\n\n{lettered(options)}\n\n{ANSWER_FORMAT}"


def choice_reference(options: Sequence[str], right: int) -> str:
    """Returns the reference that `phi4r.verifiers.choice.ChoiceVerifier` reads.

    Args:
      options: texts, in the order of their letters.
      right: index of the right one.
    """
    return json.dumps({"letter": letter_of(right), "options": list(options)}, ensure_ascii=False)


def read_choice_reference(reference: str) -> tuple[list[str], int]:
    """Returns the options and the index of the right one of a reference that `choice_reference` wrote."""
    question = json.loads(reference)
    return question["options"], string.ascii_uppercase.index(question["letter"])


def draw_counts(rng: random.Random, right: int) -> tuple[int, ...]:
    """Returns four different counts in random order: `right` and neighbours of it, at any place among them."""
    lowest = right - rng.randint(0, min(_NUM_COUNTS - 1, right))
    return tuple(rng.sample(range(lowest, lowest + _NUM_COUNTS), _NUM_COUNTS))
