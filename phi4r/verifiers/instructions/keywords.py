"""Instructions about the words and letters that a response has or has not."""

import re

from phi4r.verifiers.instructions.arguments import Arguments, Check

# Particles of other scripts are written on to a Latin word without a blank, so only Latin letters make a word longer.
_LATIN = "0-9A-Za-z\u00c0-\u024f"


def existence(arguments: Arguments) -> Check:
    """All of `keywords` occur, in any case.

    compat: as parts of other words too ("cat" in "category").
    """
    patterns = [_occurrences(keyword, arguments.compat) for keyword in arguments.texts("keywords")]
    return lambda text: all(pattern.search(text) for pattern in patterns)


def frequency(arguments: Arguments) -> Check:
    """`keyword` occurs at least, or less than, `frequency` times, in any case.

    compat: as a part of other words too ("the" in "other").
    """
    pattern = _occurrences(arguments.text("keyword"), arguments.compat)
    enough = arguments.limit("frequency", "relation")
    return lambda text: enough(sum(1 for _ in pattern.finditer(text)))


def forbidden_words(arguments: Arguments) -> Check:
    """None of `forbidden_words` occurs as a word, in any case; as parts of other words they may."""
    patterns = [_occurrences(word, substring=False) for word in arguments.texts("forbidden_words")]
    return lambda text: not any(pattern.search(text) for pattern in patterns)


def letter_frequency(arguments: Arguments) -> Check:
    """The character `letter` occurs at least, or less than, `let_frequency` times, in any case."""
    letter = arguments.text("letter").lower()
    if len(letter) != 1:
        raise arguments.malformed("letter", "one character")
    enough = arguments.limit("let_frequency", "let_relation")
    return lambda text: enough(text.lower().count(letter))


def _occurrences(word: str, substring: bool) -> re.Pattern[str]:
    """Returns a pattern that finds a word, plain text and no expression."""
    escaped = re.escape(word)
    return re.compile(escaped if substring else f"(?<![{_LATIN}]){escaped}(?![{_LATIN}])", re.IGNORECASE)
