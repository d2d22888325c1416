"""Builds an NgramIndex: hashes protected texts, leaves templates and allowed n-grams out, and sorts the rest.

A template is what the texts of one benchmark share: the instructions around a question, the rules of a puzzle. It says
nothing about the question, so no word of it is in an n-gram of the index. Without this, a training puzzle would be
condemned for its rules, and a short question would seem to be mostly instructions.
"""

import dataclasses
import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.ngrams import HashedWords, hash_words, ngram_hashes, ngram_hashes_at, words_of
from phi4r.curation.overlap.protected_texts import ProtectedText
from phi4r.errors import UserError

_FILTER_BITS = 32  # for each n-gram: of those in no protected text, at most one of 32 passes


@dataclasses.dataclass(frozen=True)
class TemplateRule:
    """Which n-grams of a benchmark are its template.

    Attributes:
      num_texts: short n-grams that occur in so many texts of the benchmark; 0 for no template at all. Not in the paper.
      share: and in at least this share of them. Not in the paper.
    """

    num_texts: int = 10
    share: float = 0.05

    def __post_init__(self):
        if self.num_texts < 0 or self.num_texts == 1 or not 0 <= self.share <= 1:
            raise UserError(
                f"a template needs num_texts=0 (for none) or at least 2, and a share from 0 to 1; not {self.num_texts} "
                f"and {self.share}."
            )

    def least(self, num_texts: int) -> int:
        """Returns the texts, of `num_texts`, in which an n-gram of the template occurs at least; 0 for no template."""
        return self.num_texts and max(self.num_texts, math.ceil(self.share * num_texts))


NO_TEMPLATE = TemplateRule(num_texts=0, share=0.0)


def build_index(
    texts: Iterable[ProtectedText],
    *,
    long_size: int = 13,
    short_size: int = 7,
    allowed: Collection[str] = (),
    template: TemplateRule = NO_TEMPLATE,
) -> NgramIndex:
    """Indexes protected texts; those of one benchmark need not stand together.

    Args:
      texts: what must not be trained on.
      long_size: words of an n-gram of which one condemns a text.
      short_size: words of the n-grams that are counted.
      allowed: long n-grams that condemn nothing, as text.
      template: what is left out as the template of a benchmark.

    Raises:
      UserError: for sizes that make no sense, or for an allowed n-gram of another size.
    """
    if not 1 <= short_size <= long_size:
        raise UserError(f"n-grams need 1 <= short size <= long size, not {short_size} and {long_size}.")
    groups: dict[str, list[ProtectedText]] = {}
    for text in texts:
        groups.setdefault(text.benchmark, []).append(text)
    rows: list[bytes] = []
    parts = [_group_ngrams((), 0, long_size, short_size, template)]  # so that there may be no texts at all
    for group in groups.values():
        parts.append(_group_ngrams(group, len(rows), long_size, short_size, template))
        rows += [_row(text) for text in group]
    ngrams = _Ngrams(*map(np.concatenate, zip(*parts, strict=True)))
    short, posting_starts, postings = _postings(ngrams.short, ngrams.short_text)
    long, firsts = np.unique(ngrams.long, return_index=True)
    kept = ~np.isin(long, _allowed_hashes(allowed, long_size))
    return NgramIndex(
        sizes=np.array([long_size, short_size]),
        filter=_filter(short),
        short=short,
        posting_starts=posting_starts,
        postings=postings,
        num_short=np.bincount(postings, minlength=len(rows)).astype(np.int32),
        long=long[kept],
        long_text=ngrams.long_text[firsts][kept],
        long_start=ngrams.long_start[firsts][kept],
        row_starts=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        rows=np.frombuffer(b"".join(rows), np.uint8),
    )


class _Ngrams(NamedTuple):
    """N-grams of texts: hashes, the texts they occur in, and in these the first words of long ones."""

    short: np.ndarray
    short_text: np.ndarray
    long: np.ndarray
    long_text: np.ndarray
    long_start: np.ndarray


def _group_ngrams(
    texts: Sequence[ProtectedText], first: int, long_size: int, short_size: int, template: TemplateRule
) -> _Ngrams:
    """Returns the n-grams of one benchmark, whose texts are numbered from `first`."""
    words = hash_words([text.text for text in texts])
    text_of = np.repeat(np.arange(len(texts), dtype=np.int32), np.diff(words.starts))  # of each word
    num_free = _count_up(~_in_template(words, text_of, short_size, template.least(len(texts))))
    short, short_starts = _ngrams_within(words, text_of, num_free, short_size)
    long, long_starts = _ngrams_within(words, text_of, num_free, long_size)
    whole, whole_texts = _whole_texts(texts, words, num_free, short_size)
    long_texts = text_of[long_starts]
    return _Ngrams(
        short=np.concatenate([short, whole]),
        short_text=np.concatenate([text_of[short_starts], whole_texts]) + np.int32(first),
        long=long,
        long_text=long_texts + np.int32(first),
        long_start=(long_starts - words.starts[long_texts]).astype(np.int32),
    )


def _in_template(words: HashedWords, text_of: np.ndarray, size: int, least: int) -> np.ndarray:
    """Returns for each word, [W] bool, whether it is in an n-gram that at least `least` texts have (0: in none)."""
    begun_less_ended = np.zeros(len(words.values) + 1, np.int64)
    if least:
        hashes, starts = _ngrams_within(words, text_of, np.arange(len(words.values) + 1), size)
        unique, posting_starts, _ = _postings(hashes, text_of[starts])
        shared = starts[np.isin(hashes, unique[np.diff(posting_starts) >= least])]
        begun_less_ended[shared] += 1
        np.add.at(begun_less_ended, shared + size, -1)
    return np.cumsum(begun_less_ended[:-1]) > 0


def _ngrams_within(
    words: HashedWords, text_of: np.ndarray, num_free: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns hashes and first words of the n-grams that cross no border of texts and hold free words only."""
    hashes = ngram_hashes(words.values, size)
    starts = np.arange(len(hashes))
    ends = starts + size
    starts = starts[(text_of[starts] == text_of[ends - 1]) & (num_free[ends] - num_free[starts] == size)]
    return hashes[starts], starts


def _whole_texts(
    texts: Sequence[ProtectedText], words: HashedWords, num_free: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns hashes and numbers of texts that are protected as a whole: a few free words that stand together."""
    hashes, numbers = [], []
    counts = num_free[words.starts[1:]] - num_free[words.starts[:-1]]
    for number in np.flatnonzero((counts > 0) & (counts < size)):
        start = np.searchsorted(num_free, num_free[words.starts[number]], side="right") - 1  # the first free word
        together = num_free[start + counts[number]] - num_free[start] == counts[number]
        if texts[number].whole and together:
            hashes.append(ngram_hashes_at(words.values, np.array([start]), int(counts[number])))
            numbers.append(number)
    return np.concatenate([np.empty(0, np.uint64), *hashes]), np.array(numbers, np.int32)


def _postings(hashes: np.ndarray, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorts pairs of hash and text.

    Returns:
      The distinct hashes, where the texts of each begin, and the distinct texts of each in order.
    """
    order = np.lexsort((texts, hashes))
    hashes, texts = hashes[order], texts[order]
    new_hash = np.concatenate([np.ones(min(len(hashes), 1), bool), hashes[1:] != hashes[:-1]])
    new_pair = new_hash.copy()
    new_pair[1:] |= texts[1:] != texts[:-1]
    starts = np.flatnonzero(new_hash[new_pair])
    return hashes[new_hash], np.append(starts, np.count_nonzero(new_pair)), texts[new_pair]


def _filter(hashes: np.ndarray) -> np.ndarray:
    """Returns the bits that `NgramIndex.may_have` asks."""
    num_bits = max(6, (_FILTER_BITS * len(hashes)).bit_length())
    slots = hashes >> np.uint64(64 - num_bits)
    bits = np.zeros(1 << (num_bits - 3), np.uint8)
    np.bitwise_or.at(bits, slots >> np.uint64(3), np.uint8(1) << (slots & np.uint64(7)).astype(np.uint8))
    return bits


def _allowed_hashes(allowed: Collection[str], size: int) -> np.ndarray:
    words = hash_words(list(allowed))
    wrong = next((text for text, count in zip(allowed, np.diff(words.starts), strict=True) if count != size), None)
    if wrong is not None:
        raise UserError(f"the allow-list has {wrong!r}, which has not {size} words; each n-gram in it needs as many.")
    return ngram_hashes_at(words.values, words.starts[:-1], size)


def _count_up(flags: np.ndarray) -> np.ndarray:
    """Returns how many flags are set before each place, and in all at the end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(flags)])


def _row(text: ProtectedText) -> bytes:
    return json.dumps([text.benchmark, text.item, text.part, " ".join(words_of(text.text))]).encode()
