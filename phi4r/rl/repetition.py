"""R_rep: how much a response repeats itself, judged on its text (section 4.1 of the report)."""

import dataclasses
from collections import Counter
from typing import Literal

from phi4r.errors import UserError


@dataclasses.dataclass(frozen=True)
class RepetitionSettings:
    """What counts as a repetition. The report names 5-grams; unit and thresholds are not in the paper.

    Attributes:
      unit: what an n-gram is made of: white-space separated "words", or "characters" for text without spaces.
      ngram_length: n, units in an n-gram (section 4.1: 5).
      max_count: an n-gram is repetitive when it occurs more often than this (section 4.1: 5).
    """

    unit: Literal["words", "characters"] = "words"  # not in the paper
    ngram_length: int = 5  # section 4.1
    max_count: int = 5  # section 4.1

    def __post_init__(self):
        if self.ngram_length < 1 or self.max_count < 1:
            raise UserError(
                f"repetition needs ngram_length >= 1 and max_count >= 1, not {self.ngram_length} and {self.max_count}."
            )


def repetition_reward(text: str, settings: RepetitionSettings = RepetitionSettings()) -> float:
    """Returns R_rep of one response: 0 without repetition, negative with it.

    With n = `ngram_length`, over all n-grams of the text and their counts,

        R_rep = -max( #{distinct n-grams with count > max_count} / #{n-grams},
                      top / (#units / n)  if top > max_count, else 0 ),    top = the largest count.

    The first term sees many phrases that return, the second a single one. N-grams overlap, so one unit repeated
    without end tends to -n; nothing clips that. A text of fewer than n units has no n-gram and scores 0.

    Args:
      text: the response, thought included.
      settings: unit and thresholds.
    """
    units = text.split() if settings.unit == "words" else list(text)
    length = settings.ngram_length
    num_ngrams = len(units) - length + 1
    if num_ngrams < 1:
        return 0.0
    counts = Counter(zip(*(units[start:] for start in range(length)), strict=False))
    repeated = [count for count in counts.values() if count > settings.max_count]
    if not repeated:
        return 0.0
    return -max(len(repeated) / num_ngrams, max(repeated) * length / len(units))
