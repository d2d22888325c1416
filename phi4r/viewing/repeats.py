"""Where a response repeats itself: the places behind R_rep, for the eye."""

import re
from collections import Counter

from phi4r.rl.repetition import RepetitionSettings

_WORD = re.compile(r"\S+")


def repeated_spans(text: str, settings: RepetitionSettings) -> list[tuple[int, int]]:
    """Returns the stretches of `text` (first character, end) made of n-grams that occur too often.

    They are the n-grams that `phi4r.rl.repetition.repetition_reward` counts as repetitive; overlapping and touching
    ones are joined, so the stretches rise and are apart.
    """
    pattern = _WORD if settings.unit == "words" else re.compile(".", re.DOTALL)
    units = [match.span() for match in pattern.finditer(text)]
    words = [text[start:end] for start, end in units]
    length = settings.ngram_length
    ngrams = list(zip(*(words[start:] for start in range(length)), strict=False))
    counts = Counter(ngrams)
    spans: list[tuple[int, int]] = []
    last = -1  # unit that the last stretch ends with
    for first, ngram in enumerate(ngrams):
        if counts[ngram] <= settings.max_count:
            continue
        end = units[first + length - 1][1]
        if spans and first <= last + 1:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((units[first][0], end))
        last = first + length - 1
    return spans
