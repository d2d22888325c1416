"""Overlaps of texts with protected ones: Algorithm 1 of the Phi-4 report (section 3 of the recipe, point 6).

    a long n-gram (13 words) of the text is in the index                                          -> contaminated
    ratio = shared short n-grams (7 words) / min(those of the text, those of a protected text), the largest of any
    ratio >= one threshold                                                                        -> contaminated
    ratio >  a lower one                                                                          -> partial
    otherwise                                                                                     -> clean

n-grams are counted as sets. A text of fewer than 13 words has no long n-gram, so only its ratio is looked at. One of
fewer than 7 words has no short one either: it counts as a single n-gram, which only a protected text of the very same
words has (ratio 1). A text without words is clean.

Before a text is called anything but clean, its words are compared with those of the protected text, so no verdict
against it rests on equal hashes. In its favour one may: of two long n-grams of the index with one hash, or a hash that
hides a place of the first, only one is known; the chance is that of a collision (`phi4r.curation.overlap.ngrams`).
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from phi4r.curation.overlap.ngram_index import NgramIndex, find_sorted
from phi4r.curation.overlap.ngrams import HashedWords, hash_words, ngram_hashes, ngram_hashes_at, words_of

Verdict = Literal["clean", "partial", "contaminated"]

_GROUP = 1 << 18  # characters of text that are looked at together
_MAX_PAIRS = 1 << 22  # pairs of a shared n-gram and a protected text that are in memory at a time


@dataclasses.dataclass(frozen=True)
class Overlap:
    """What a text has in common with protected ones.

    Attributes:
      verdict: of the algorithm.
      rule: "13-gram" or "7-gram ratio", what a verdict that is not clean rests on.
      ratio: the largest of any protected text; where a long n-gram condemns, maybe of another one than `item`.
      benchmark: of the protected text with the long n-gram, or the largest ratio; empty for a clean text, as below.
      item: its id.
      part: which of the item's texts it is.
      start: number of the first word of the span in the text that was checked.
      span: the longest run of words around the first shared long n-gram, or of words in shared short ones.
    """

    verdict: Verdict = "clean"
    rule: str = ""
    ratio: float = 0.0
    benchmark: str = ""
    item: str = ""
    part: str = ""
    start: int = 0
    span: str = ""


CLEAN = Overlap()


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """Ratios of shared short n-grams; neither is in the paper."""

    contaminated: float
    partial: float

    def verdict(self, ratio: float) -> Verdict:
        """Returns what a text is by its ratio alone."""
        if ratio >= self.contaminated:
            return "contaminated"
        return "partial" if ratio > self.partial else "clean"


def find_overlaps(index: NgramIndex, texts: Sequence[str], thresholds: Thresholds) -> list[Overlap]:
    """Returns the overlap of each text; memory is bounded by the longest text, not by their number."""
    overlaps = []
    for group in _groups(texts):
        overlaps += _group_overlaps(index, group, thresholds)
    return overlaps


def find_long_ngrams(index: NgramIndex, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the long n-grams of texts that are in the index: numbers of texts, and places in `index.long`."""
    found = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    first = 0
    for group in _groups(texts):
        words = hash_words(group)
        passed = _passed(index, words, ngram_hashes(words.values, index.short_size))
        of, _, places = _long_hits(index, words, *passed)
        found.append((of + first, places))
        first += len(group)
    of, places = map(np.concatenate, zip(*found, strict=True))
    return of, places


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    group, size = [], 0
    for text in texts:
        if group and size + len(text) > _GROUP:
            yield group
            group, size = [], 0
        group.append(text)
        size += len(text)
    if group:
        yield group


@dataclasses.dataclass(frozen=True)
class _Hits:
    """Short n-grams of texts that are in the index.

    Attributes:
      texts: number of the text of each, ascending.
      starts: number of its first word in that text.
      places: its place in `NgramIndex.short`.
    """

    texts: np.ndarray
    starts: np.ndarray
    places: np.ndarray

    def of(self, text: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns starts and places of one text's."""
        begin, end = np.searchsorted(self.texts, [text, text + 1])
        return self.starts[begin:end], self.places[begin:end]


class _Ratio(NamedTuple):
    """The protected text with the largest ratio to a text, and what the shared n-grams are divided by."""

    protected: int
    ratio: float
    divisor: int


def _group_overlaps(index: NgramIndex, texts: list[str], thresholds: Thresholds) -> list[Overlap]:
    words = hash_words(texts)
    short = ngram_hashes(words.values, index.short_size)
    passed, passed_texts = _passed(index, words, short)
    hits = _short_hits(index, words, short, passed, passed_texts)
    ratios = _largest_ratios(index, words, short, hits)
    suspects: dict[int, list[tuple[int, int]]] = {}
    found_long = (part.tolist() for part in _long_hits(index, words, passed, passed_texts))
    for text, start, place in zip(*found_long, strict=True):
        suspects.setdefault(text, []).append((start, place))
    overlaps = [CLEAN] * len(texts)
    for text in ratios.keys() | suspects.keys():
        ratio = ratios.get(text)
        found = _from_long(index, texts[text], suspects[text]) if text in suspects else None
        if found is None and ratio is not None and thresholds.verdict(ratio.ratio) != "clean":
            found = _from_ratio(index, texts[text], *hits.of(text), ratio, thresholds)
        elif ratio is not None:
            found = dataclasses.replace(found, ratio=ratio.ratio) if found else Overlap(ratio=ratio.ratio)
        overlaps[text] = found or CLEAN
    return overlaps


def _passed(index: NgramIndex, words: HashedWords, short: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns first words and texts of the short n-grams that pass the filter and lie within a text."""
    starts = index.may_have(short)
    texts = np.searchsorted(words.starts, starts, side="right") - 1
    inside = starts + index.short_size <= words.starts[texts + 1]
    return starts[inside], texts[inside]


def _long_hits(
    index: NgramIndex, words: HashedWords, passed: np.ndarray, passed_texts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns of each long n-gram that is in the index: its text, its first word there, its place in `index.long`.

    All short n-grams in a long one of the index are in the index too, so only where so many in a row have passed the
    filter can there be a long one.
    """
    more = index.long_size - index.short_size
    last = max(len(passed) - more, 0)
    row = (passed[more:] - passed[:last] == more) & (passed_texts[more:] == passed_texts[:last])
    starts, texts = passed[:last][row], passed_texts[:last][row]
    places = find_sorted(index.long, ngram_hashes_at(words.values, starts, index.long_size))
    found = places >= 0
    texts = texts[found]
    return texts, starts[found] - words.starts[texts], places[found]


def _short_hits(
    index: NgramIndex, words: HashedWords, short: np.ndarray, passed: np.ndarray, passed_texts: np.ndarray
) -> _Hits:
    """Looks up what has passed the filter, and the texts that are a single n-gram."""
    texts, starts, hashes = [passed_texts], [passed], [short[passed]]
    lengths = np.diff(words.starts)
    for size in range(1, index.short_size):
        wholes = np.flatnonzero(lengths == size)
        texts.append(wholes)
        starts.append(words.starts[wholes])
        hashes.append(ngram_hashes_at(words.values, starts[-1], size))
    texts, starts, hashes = map(np.concatenate, (texts, starts, hashes))
    places = find_sorted(index.short, hashes)
    found = np.flatnonzero(places >= 0)
    found = found[np.argsort(starts[found], kind="stable")]
    return _Hits(texts[found], starts[found] - words.starts[texts[found]], places[found])


def _largest_ratios(index: NgramIndex, words: HashedWords, short: np.ndarray, hits: _Hits) -> dict[int, _Ratio]:
    """Returns the largest ratio of each text that shares an n-gram; of equal ones the first protected text's."""
    pairs = np.unique(hits.texts * np.int64(len(index.short) + 1) + hits.places)
    texts, places = np.divmod(pairs, len(index.short) + 1)
    affected = np.unique(texts)
    num_distinct = np.zeros(len(words.starts) - 1, np.int64)
    num_distinct[affected] = _num_distinct(words, short, affected, index.short_size)
    ratios = {}
    for part in _parts(texts, index.posting_starts[places + 1] - index.posting_starts[places]):
        of_pair, protected = _postings_of(index, places[part])
        keys, shared = np.unique(texts[part][of_pair] * np.int64(len(index)) + protected, return_counts=True)
        text, protected = np.divmod(keys, len(index))
        divisors = np.minimum(num_distinct[text], index.num_short[protected])
        ratio = shared / divisors
        order = np.lexsort((protected, -ratio, text))
        firsts = order[np.flatnonzero(np.diff(text[order], prepend=-1))]
        best = _Ratio(protected[firsts].tolist(), ratio[firsts].tolist(), divisors[firsts].tolist())
        ratios.update(zip(text[firsts].tolist(), map(_Ratio, *best), strict=True))
    return ratios


def _num_distinct(words: HashedWords, short: np.ndarray, texts: np.ndarray, size: int) -> list[int]:
    """Returns the number of distinct short n-grams of each of `texts`; 1 for one that is a single n-gram."""
    counts = []
    for start, stop in zip(words.starts[texts].tolist(), words.starts[texts + 1].tolist(), strict=True):
        hashes = np.sort(short[start : max(stop - size + 1, start)])
        counts.append(1 + np.count_nonzero(hashes[1:] != hashes[:-1]))
    return counts


def _parts(texts: np.ndarray, costs: np.ndarray) -> Iterator[slice]:
    """Cuts between texts, so that a part costs little more than `_MAX_PAIRS`."""
    totals = np.cumsum(costs)
    start = 0
    while start < len(texts):
        limit = (totals[start - 1] if start else 0) + _MAX_PAIRS
        stop = max(int(np.searchsorted(totals, limit, side="right")), start + 1)
        stop = int(np.searchsorted(texts, texts[stop - 1], side="right"))
        yield slice(start, stop)
        start = stop


def _postings_of(index: NgramIndex, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the protected texts of each place, as (number of the place in `places`, protected text)."""
    begins = index.posting_starts[places]
    counts = index.posting_starts[places + 1] - begins
    of = np.repeat(np.arange(len(places)), counts)
    return of, index.postings[np.arange(len(of)) + (begins - np.cumsum(counts) + counts)[of]]


def _from_long(index: NgramIndex, text: str, suspects: list[tuple[int, int]]) -> Overlap | None:
    """Returns the overlap around the first long n-gram whose words are those of the index."""
    words = words_of(text)
    size = index.long_size
    for start, place in suspects:
        benchmark, item, part, theirs = index.row(int(index.long_text[place]))
        begin = int(index.long_start[place])
        if words[start : start + size] == theirs[begin : begin + size]:
            pairs = zip(words[start:], theirs[begin:], strict=False)
            length = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
            span = " ".join(words[start : start + length])
            return Overlap("contaminated", f"{size}-gram", 0.0, benchmark, item, part, start, span)
    return None


def _from_ratio(
    index: NgramIndex, text: str, starts: np.ndarray, places: np.ndarray, found: _Ratio, thresholds: Thresholds
) -> Overlap:
    """Counts the shared n-grams once more, by their words, and returns the overlap of the text."""
    words = words_of(text)
    size = min(index.short_size, len(words))
    benchmark, item, part, theirs = index.row(found.protected)
    known = set(_word_ngrams(theirs, size))
    ours = _word_ngrams(words, size)
    of_hit, protected = _postings_of(index, places)
    shared = [start for start in starts[of_hit[protected == found.protected]].tolist() if ours[start] in known]
    ratio = len({ours[start] for start in shared}) / found.divisor
    verdict = thresholds.verdict(ratio)
    if verdict == "clean":
        return Overlap(ratio=ratio)
    start, length = _longest_run(shared)
    span = " ".join(words[start : start + length + size - 1])
    return Overlap(verdict, f"{index.short_size}-gram ratio", ratio, benchmark, item, part, start, span)


def _word_ngrams(words: list[str], size: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(size)), strict=False))


def _longest_run(numbers: list[int]) -> tuple[int, int]:
    """Returns first and length of the longest run of whole numbers in an ascending list."""
    best, first = (0, 0), 0
    for place, number in enumerate(numbers):
        if place == 0 or number != numbers[place - 1] + 1:
            first = number
        best = max(best, (number - first + 1, -first))
    return -best[1], best[0]
