"""R_rep: how much a response repeats itself, judged on its text (section 4.1 of the report)."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from phi4r.errors import UserError

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd: products spread over all 64 bits


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
    repeated = _frequent_counts(units, length, settings.max_count)
    if not repeated:
        return 0.0
    return -max(len(repeated) / num_ngrams, max(repeated) * length / len(units))


def _frequent_counts(units: Sequence[str], length: int, max_count: int) -> list[int]:
    """Returns the counts of the n-grams that occur more than `max_count` times, in time about linear in the text.

    The n-grams are thrown into buckets by a hash, a few buckets for each. All occurrences of one share a bucket, so
    only the n-grams of buckets with more than `max_count` in them, few in prose, need to be told apart. They are
    numbered from the left: first the different units, then the different pairs of such a number and the next unit.
    """
    numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    ids = np.fromiter(map(numbers.__getitem__, units), np.uint64, len(units))
    num_ngrams = len(units) - length + 1
    hashes = np.zeros(num_ngrams, np.uint64)
    for start in range(length):
        hashes = hashes * _MULTIPLIER + ids[start : start + num_ngrams]
    num_bits = num_ngrams.bit_length() + 1
    buckets = ((hashes * _MULTIPLIER) >> np.uint64(64 - num_bits)).astype(np.int64)
    candidates = np.flatnonzero(np.bincount(buckets)[buckets] > max_count)
    codes = ids[candidates].astype(np.int64)
    for start in range(1, length):
        pairs = codes * len(numbers) + ids[candidates + start].astype(np.int64)
        codes = np.unique(pairs, return_inverse=True)[1]
    counts = np.bincount(codes)
    return counts[counts > max_count].tolist()
