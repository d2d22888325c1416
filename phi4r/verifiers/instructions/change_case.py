"""Instructions about capital letters."""

import re

from phi4r.verifiers.instructions.arguments import Arguments, Check
from phi4r.verifiers.instructions.detection import detected_language

# A run of letters and digits with signs inside; an English contraction is two words ("I'm": "I" and "'m"), so "I'm"
# has a word in capital letters. That is how the tokenizer of the published scorer counts.
_WORD = re.compile(r"[^\W_]++(?:[-./_]++[^\W_]++)*+")
_CONTRACTION = re.compile(r"(?<=[a-z])(?:(?=n['\u2019]t\b)|['\u2019](?=(?:s|m|d|ll|re|ve)\b))", re.IGNORECASE)


def english_capital(arguments: Arguments) -> Check:
    """The response is English, and all its letters are capital letters."""
    return lambda text: text.isupper() and _english(text, arguments.compat)


def english_lowercase(arguments: Arguments) -> Check:
    """The response is English, and none of its letters is a capital letter."""
    return lambda text: text.islower() and _english(text, arguments.compat)


def capital_word_frequency(arguments: Arguments) -> Check:
    """At least, or less than, `capital_frequency` words are in capital letters; "A" and "I" are such words."""
    enough = arguments.limit("capital_frequency", "capital_relation")
    return lambda text: enough(num_capital_words(text))


def num_capital_words(text: str) -> int:
    """Returns how many words are in capital letters, words with hyphens counted once."""
    return sum(word.group().isupper() for word in _WORD.finditer(_CONTRACTION.sub(" ", text)))


def _english(text: str, compat: bool) -> bool:
    return detected_language(text, compat=compat) in ("en", None)
