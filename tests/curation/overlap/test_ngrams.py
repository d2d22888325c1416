import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi4r.curation.overlap import ngrams
from phi4r.curation.overlap.ngrams import hash_words, ngram_hashes, ngram_hashes_at, words_of
from tests.curation.overlap.plain_overlaps import plain_words

# Characters that meet every branch: accents that follow a letter, compatibility forms, final sigma, sharp s, dotted I,
# halves of characters, quotes, Han and kana with their marks, and what Unicode itself calls a blank or a line end.
TEXTS = st.text(
    st.one_of(
        st.sampled_from("aBz09 _-'\n\t\0\x1c\x85\xa0"),
        st.sampled_from("\u0301\u0345\u2019\u2028\u00bd\u00b4ß\u017fΣς\u0131é\ufb01\u212a\u0130"),
        st.sampled_from("東か\u3099ガ\uff76\uff9e\ud800\U0001f600\u1e9e\u037a\u1fbd\u0958"),
        st.characters(),
    ),
    max_size=40,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, WORLD!", "hello world"),
        ("don't don\u2019t", "don t don t"),
        ("well-known\n\n(see\tp. 3)", "well known see p 3"),
        (r"$\frac{1}{2}x_1 + 3.5$", "frac 1 2 x 1 3 5"),
        ("Straße STRASSE", "strasse strasse"),
        ("caf\u00e9 cafe\u0301 CAF\u00c9", "caf\u00e9 caf\u00e9 caf\u00e9"),
        ("x\u00b2 \ufb01n \u00bd", "x2 fin 1 2"),
        ("ΟΔΟΣ οδος", "οδοσ οδοσ"),
        ("東京abc大学。ここ", "東 京 abc 大 学 こ こ"),
        ("naïve \u2014 “quoted”", "naïve quoted"),
        ("\ud800a", "a"),
        (" .,! ", ""),
        ("", ""),
    ],
)
def test_words_are_lower_case_without_punctuation(text, words):
    assert words_of(text) == words.split()


@given(TEXTS)
@settings(max_examples=250, deadline=None)
def test_the_fast_way_gives_the_words_of_the_plain_one(text):
    assert words_of(text) == plain_words(text)


@given(st.lists(TEXTS, max_size=6))
@settings(max_examples=100, deadline=None)
def test_hashes_stand_for_the_words_of_each_text(texts):
    hashed = hash_words(texts)
    words = [plain_words(text) for text in texts]
    assert hashed.starts.tolist() == [0, *itertools.accumulate(map(len, words))]
    pairs = set(zip([word for text in words for word in text], hashed.values.tolist(), strict=True))
    assert len(pairs) == len({word for word, _ in pairs}) == len({value for _, value in pairs})


def plain_hash(words: list[str]) -> int:
    """The polynomial of polynomials in whole numbers of Python."""
    total = 0
    for place, word in enumerate(words):
        value = sum(byte * pow(ngrams._BYTE_BASE, i, 2**64) for i, byte in enumerate(word.encode())) % 2**64
        value = (value ^ value >> 32) * int(ngrams._MIXER) % 2**64
        total += (value ^ value >> 29) * pow(ngrams._WORD_BASE, place, 2**64)
    return total % 2**64


@pytest.mark.parametrize("size", range(1, 14))
def test_hashes_of_ngrams_are_polynomials_of_those_of_words(size):
    text = "The café of 12 words, a b c d; the CAFÉ of 12 words and 3 more " + "x" * 100
    words, hashed = plain_words(text), hash_words([text]).values
    expected = [plain_hash(words[i : i + size]) for i in range(len(words) - size + 1)]
    assert ngram_hashes(hashed, size).tolist() == expected
    places = np.array([len(expected) - 1, 0, 3])
    assert ngram_hashes_at(hashed, places, size).tolist() == [expected[place] for place in places]


def test_there_are_no_ngrams_of_more_words_than_there_are():
    assert len(ngram_hashes(hash_words(["one two three"]).values, 4)) == 0
    assert len(ngram_hashes(hash_words([]).values, 1)) == 0
    assert hash_words(["", "!"]).starts.tolist() == [0, 0, 0]


@pytest.mark.parametrize("block", [2, 5, 16, 64])
def test_where_a_block_ends_makes_no_difference(block, monkeypatch):
    texts = ["one two, three " * 20, "w" * 200 + " ab " + "é" * 90, "", "end"]
    whole = hash_words(texts)
    monkeypatch.setattr(ngrams, "_BLOCK", block)
    cut = hash_words(texts)
    assert cut.values.tolist() == whole.values.tolist()
    assert cut.starts.tolist() == whole.starts.tolist()
