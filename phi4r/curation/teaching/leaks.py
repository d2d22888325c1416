"""Leaks: text in a solution that only its writer should have seen, and ways of speaking that betray it.

Words are compared in lower case and without punctuation, so a passage that was re-cased or re-punctuated is still the
same one.
"""

import re
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"\w+")
_OF_OTHERS = r"(?!\s+(?:of|for|from|by|on|published|issued|set\s+out)\b)"  # "the guidelines of the WHO" are no secret
_MENTIONS = re.compile(
    r"\b(?:the|my|these|those|our|your|its)\s+(?:(?:safety|content|usage|internal|above|given|provided)\s+)*"
    rf"(?:guidelines?|polic(?:y|ies))\b{_OF_OTHERS}"
    r"|\b(?:the|my|a|this)\s+(?:hidden\s+)?(?:system|developer)\s+(?:message|prompt|instructions?)"
    r"|\bas\s+(?:instructed|required|requested|stated|described|specified)\s+above"
    r"|\bas\s+instructed\s+(?:in|by|to)\b"
    r"|\b(?:the|these|my)\s+(?:instructions|rules)\s+(?:above|i\s+(?:was|were|have\s+been|am)\s+given)"
    r"|\bi(?:\s+(?:was|am|have\s+been)|'m|'ve\s+been)\s+(?:told|instructed)\s+(?:not\s+)?to\b"
    r"|</?think\b",
    re.IGNORECASE,
)


def mentions(text: str) -> list[str]:
    """Returns where a text speaks of its instructions: "the guidelines", "my system message", "as instructed above".

    Guidelines that are named as somebody else's ("the guidelines of the WHO") are left alone.
    """
    return [" ".join(found[0].split()) for found in _MENTIONS.finditer(text.replace("\u2019", "'"))]


def copied_passages(text: str, source: str, *, num_words: int, known: Sequence[str] = ()) -> list[str]:
    """Returns the passages of at least `num_words` words that a text has word by word from a source, as it wrote them.

    Args:
      text: which should not have them.
      source: where they come from.
      num_words: length of the shortest passage that is more than chance.
      known: texts whose passages anybody may quote, as the prompt.
    """
    secret = set(_ngrams(_words(source), num_words))
    for other in known:
        secret.difference_update(_ngrams(_words(other), num_words))
    if not secret:
        return []
    found = list(_WORD.finditer(text))
    starts = [
        number
        for number, ngram in enumerate(_ngrams([word[0].lower() for word in found], num_words))
        if ngram in secret
    ]
    passages: list[list[int]] = []  # first and last word of each
    for start in starts:
        if passages and start <= passages[-1][1] + 1:
            passages[-1][1] = start + num_words - 1
        else:
            passages.append([start, start + num_words - 1])
    return [text[found[first].start() : found[last].end()] for first, last in passages]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _ngrams(words: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    for start in range(len(words) - size + 1):
        yield tuple(words[start : start + size])
