r"""Tokens of LaTeX and top-level splits: enough structure to take an answer apart, and no more.

A token is a command (`\frac`, `\,`), a run of digits, or one character. Blank space is dropped except where it
separates two numbers (`7 3/4`), and `join` writes it back only where LaTeX needs it (`\pi r`).
"""

import re

_TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\d+|\s+|.", re.DOTALL)

OPENERS = frozenset(["{", "(", "[", r"\{", r"\lfloor", r"\lceil", r"\lbrack", r"\begin"])
CLOSERS = frozenset(["}", ")", "]", r"\}", r"\rfloor", r"\rceil", r"\rbrack", r"\end"])


def tokenize(latex: str) -> list[str]:
    """Splits LaTeX into tokens, without the blank space that has no meaning."""
    raw = [" " if token.isspace() else token for token in _TOKEN.findall(latex)]
    kept = []
    for i, token in enumerate(raw):
        if token == " ":
            between_numbers = kept and kept[-1].isdigit() and i + 1 < len(raw) and raw[i + 1].isdigit()
            if not between_numbers:
                continue
        kept.append(token)
    return kept


def join(tokens: list[str]) -> str:
    r"""Writes tokens as LaTeX, with a space only between a command and a letter (`\pi r`)."""
    pieces = []
    for token in tokens:
        after_command = pieces and pieces[-1][0] == "\\" and pieces[-1][-1].isalpha()
        if after_command and token[0].isalpha():
            pieces.append(" ")
        pieces.append(token)
    return "".join(pieces)


def closing(tokens: list[str], start: int) -> int | None:
    """Returns the index of the bracket that closes the one at `start`, or None.

    Kinds of brackets are not told apart, because a half-open interval `[a, b)` mixes them.
    """
    depth = 0
    for i in range(start, len(tokens)):
        if tokens[i] in OPENERS:
            depth += 1
        elif tokens[i] in CLOSERS:
            depth -= 1
            if depth == 0:
                return i
    return None


def split_top_level(tokens: list[str], separators: frozenset[str]) -> tuple[list[list[str]], list[str]]:
    """Splits at separators that stand outside all brackets.

    Returns:
      The parts (one more than separators) and the separators between them.
    """
    parts: list[list[str]] = [[]]
    found = []
    depth = 0
    for token in tokens:
        if token in OPENERS:
            depth += 1
        elif token in CLOSERS:
            depth -= 1
        if depth == 0 and token in separators:
            found.append(token)
            parts.append([])
        else:
            parts[-1].append(token)
    return parts, found


def depth(tokens: list[str]) -> int:
    """Returns how deep the brackets nest."""
    deepest = current = 0
    for token in tokens:
        if token in OPENERS:
            current += 1
            deepest = max(deepest, current)
        elif token in CLOSERS:
            current -= 1
    return deepest
