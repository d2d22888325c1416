"""Words of texts and their n-grams, as 64-bit hashes of many texts at once.

A word is a run of letters, digits and combining marks, after Unicode's compatibility forms are made equal (NFKC) and
case is folded; everything else separates words and is gone. A character of a script that writes no blanks between
words (Chinese, Japanese) is a word by itself. So neither case, punctuation, white space nor line ends tell texts apart.

How it is fast: a table turns the bytes of ASCII text into lower case and zeros, and only text with other characters
takes the way through Unicode first. A word's hash is a polynomial of its bytes, read off one running sum over a block
of bytes; an n-gram's hash is a polynomial of the hashes of its words. Both are taken modulo 2^64, with a mixing step
between them. Two different n-grams have equal hashes with probability of about 2^-64: 1e10 n-grams looked up in 1e7
meet about 1e10 * 1e7 / 2^64 = 0.005 false hits, and those who use a hit compare the words themselves.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_BLOCK = 1 << 16  # bytes in one running sum: its arrays of 8 bytes each stay in a cache of the processor
_BYTE_BASE = 0x9E3779B97F4A7C15  # odd, so that its powers have inverses
_WORD_BASE = 0xD6E8FEB86659FD93
_MIXER = np.uint64(0xFF51AFD7ED558CCD)
_MODULUS = 1 << 64

_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_SHORT_RUN = 8
_ALONE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")  # kana and Han
_TABLE = bytes(
    ord(chr(byte).lower()) if byte < 128 and chr(byte).isalnum() else byte if byte >= 128 else 0 for byte in range(256)
)


class HashedWords(NamedTuple):
    """The words of several texts.

    Attributes:
      values: hash of each word, [W] uint64, text after text.
      starts: number of the first word of each text, and of all words at the end, [texts + 1] int64.
    """

    values: np.ndarray
    starts: np.ndarray


def words_of(text: str) -> list[str]:
    """Returns the words of a text, as they are compared."""
    return _separated(text).encode().translate(_TABLE).replace(b"\0", b" ").decode().split()


def hash_words(texts: Sequence[str]) -> HashedWords:
    """Returns the hashes of all words of `texts`, in about five times the memory of the texts."""
    encoded = [(text if text.isascii() else _separated(text)).encode() for text in texts]
    buffer = b"".join((b"\n", b"\n".join(encoded), b"\n"))
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths + 1)])  # the line end before each text
    values, positions = _hash_buffer(buffer.translate(_TABLE))
    return HashedWords(values, np.searchsorted(positions, ends))


def ngram_hashes(values: np.ndarray, n: int) -> np.ndarray:
    """Returns the hash of every n words in a row, [max(W - n + 1, 0)] uint64; which of them cross texts is not seen."""
    if len(values) < n:
        return np.empty(0, np.uint64)
    result, size = None, 0  # the hash of `size` words, put together from blocks of 1, 2, 4, ... words
    block, block_size = values, 1
    while True:
        if n & block_size:
            result = block if result is None else _joined(result, size, block)
            size += block_size
        if size == n:
            return result
        block = _joined(block, block_size, block)
        block_size *= 2


def ngram_hashes_at(values: np.ndarray, positions: np.ndarray, n: int) -> np.ndarray:
    """Returns the hashes of the n words that begin at each of `positions`, as `ngram_hashes` has them."""
    powers = np.array([pow(_WORD_BASE, i, _MODULUS) for i in range(n)], np.uint64)
    total = np.zeros(len(positions), np.uint64)
    for i in range(n):
        total += values[positions + i] * powers[i]
    return total


def _joined(left: np.ndarray, size: int, right: np.ndarray) -> np.ndarray:
    """Returns the hashes of `size` words of `left` and the words of `right` that follow them."""
    power = np.uint64(pow(_WORD_BASE, size, _MODULUS))
    follow = right[size:]
    length = min(len(left), len(follow))
    return left[:length] + power * follow[:length]


def _separated(text: str) -> str:
    """Returns the text with what is not ASCII in it normalised, and separators among that replaced by blanks.

    The ASCII character before a run of others goes with it, since an accent may follow it; no character of ASCII
    changes what stands before it, so the pieces are normalised apart as they would be together.
    """
    pieces, done = [], 0
    for run in _NON_ASCII.finditer(text):
        start = max(run.start() - 1, done)
        resolve = _resolved_often if run.end() - start <= _SHORT_RUN else _resolved
        pieces += (text[done:start], resolve(text[start : run.end()]))
        done = run.end()
    return "".join((*pieces, text[done:]))


def _resolved(run: str) -> str:
    return "".join(map(_written, unicodedata.normalize("NFKC", run).casefold()))


_resolved_often = functools.lru_cache(1 << 14)(_resolved)  # the quotes and dashes of English text


@functools.lru_cache(1 << 16)
def _written(character: str) -> str:
    """Returns a character as it goes into words: itself, a blank, or itself between blanks."""
    if not character.isascii() and unicodedata.category(character)[0] not in "LNM":
        return " "
    return f" {character} " if _ALONE.match(character) else character


def _hash_buffer(translated: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Hashes the words of bytes in which zeros separate them, also at both ends.

    Returns:
      The hash of each word and the byte it begins at.
    """
    array = np.frombuffer(translated, np.uint8)
    values, positions = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    powers, inverses = _powers()
    start, last = 0, len(translated) - 1
    while start < last:
        stop = last if last - start <= _BLOCK else translated.rfind(b"\0", start + 1, start + _BLOCK)
        if stop < 0:  # a word longer than a block
            stop = translated.find(b"\0", start + 1)
            begins, hashes = np.ones(1, np.int64), _hash_long_word(array[start + 1 : stop])
        else:
            block = array[start : stop + 1]
            in_word = block != 0
            edges = np.flatnonzero(in_word[1:] != in_word[:-1]) + 1
            begins, ends = edges[0::2], edges[1::2]
            sums = np.cumsum(block * powers[: len(block)])  # of all bytes up to one, itself included
            hashes = (sums[ends] - sums[begins - 1]) * inverses[begins]
        values.append(_mixed(hashes))
        positions.append(begins + start)
        start = stop
    return np.concatenate(values), np.concatenate(positions)


def _hash_long_word(word: np.ndarray) -> np.ndarray:
    """Returns the polynomial of a word's bytes, [1] uint64, block by block."""
    powers, _ = _powers()
    total = 0
    for start in range(0, len(word), _BLOCK):
        piece = word[start : start + _BLOCK]
        total += pow(_BYTE_BASE, start, _MODULUS) * int(np.sum(piece * powers[: len(piece)]))
    return np.array([total % _MODULUS], np.uint64)


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """Returns the hashes with their bits mixed, one to one."""
    hashes ^= hashes >> np.uint64(32)
    hashes *= _MIXER
    hashes ^= hashes >> np.uint64(29)
    return hashes


@functools.lru_cache(1)
def _powers() -> tuple[np.ndarray, np.ndarray]:
    """Returns as many powers of the base of bytes as a block needs, and their inverses."""
    bases = (_BYTE_BASE, pow(_BYTE_BASE, -1, _MODULUS))
    steps = (np.concatenate([np.ones(1, np.uint64), np.full(_BLOCK, base, np.uint64)]) for base in bases)
    return tuple(np.cumprod(step, dtype=np.uint64) for step in steps)
