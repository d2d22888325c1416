from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given

from phi4r.errors import UserError
from phi4r.rl.repetition import RepetitionSettings, repetition_reward


def test_text_without_repetition_scores_zero():
    assert repetition_reward(" ".join(str(i) for i in range(100))) == 0.0


@pytest.mark.parametrize("text", ["", "one", "a a a a"])
def test_fewer_words_than_an_n_gram_score_zero(text):
    assert repetition_reward(text) == 0.0


def test_five_occurrences_are_still_allowed():
    # "a b c d e" five times: 25 words; each of the 5-grams starting at "a" occurs 5 times, the others 4 times.
    assert repetition_reward("a b c d e " * 5) == 0.0


def test_a_phrase_of_six_repeats_by_hand():
    # 30 words, 26 5-grams. The one starting at "a" occurs 6 times, those at b, c, d, e 5 times each (6 + 20 = 26).
    # First term 1/26 = 0.038; second 6 / (30 / 5) = 1.
    assert repetition_reward("a b c d e " * 6) == pytest.approx(-1.0)


def test_one_word_without_end_by_hand():
    # 50 words, 46 times the same 5-gram: max(1/46, 46 / 10) = 4.6.
    assert repetition_reward("no " * 50) == pytest.approx(-4.6)


def test_many_returning_phrases_count_by_the_first_term():
    # 1-grams, threshold 1: "a a b b c c d d e e f": 5 of 11 repeat -> 5/11; the top count 2 gives 2/11.
    settings = RepetitionSettings(ngram_length=1, max_count=1)
    assert repetition_reward("a a b b c c d d e e f", settings) == pytest.approx(-5 / 11)


def test_any_white_space_separates_words():
    assert repetition_reward("a\nb\tc  d e\n\n" * 6) == pytest.approx(-1.0)


def test_the_unit_may_be_characters():
    # Six characters "x", bigrams: 5 times "xx" with threshold 4: max(1/5, 5 / (6 / 2)) = 5/3.
    settings = RepetitionSettings(unit="characters", ngram_length=2, max_count=4)
    assert repetition_reward("xxxxxx", settings) == pytest.approx(-5 / 3)
    assert repetition_reward("xxxxxx") == 0.0


def test_thresholds_below_one_are_refused():
    with pytest.raises(UserError, match="ngram_length"):
        RepetitionSettings(ngram_length=0)


def by_definition(text, settings):
    """The formula, with every n-gram in a dictionary."""
    units = text.split() if settings.unit == "words" else text
    ngrams = [tuple(units[i : i + settings.ngram_length]) for i in range(len(units) - settings.ngram_length + 1)]
    counts = Counter(ngrams)
    often = [count for count in counts.values() if count > settings.max_count]
    if not often:
        return 0.0
    return -max(len(often) / len(ngrams), max(often) / (len(units) / settings.ngram_length))


@given(
    st.text(alphabet="ab ", max_size=200),
    st.sampled_from(["words", "characters"]),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_buckets_find_what_a_dictionary_finds(text, unit, length, max_count):
    settings = RepetitionSettings(unit=unit, ngram_length=length, max_count=max_count)
    assert repetition_reward(text, settings) == pytest.approx(by_definition(text, settings))


def test_one_phrase_in_a_long_text_is_found():
    words = [f"w{(i * i) % 20011}" for i in range(24000)]
    phrase = ["let", "me", "check", "this", "again"]
    assert repetition_reward(" ".join(words)) == by_definition(" ".join(words), RepetitionSettings())
    for place in range(100, 22000, 1000):
        words[place : place + 5] = phrase
    text = " ".join(words)
    assert repetition_reward(text) == pytest.approx(by_definition(text, RepetitionSettings()))
    assert repetition_reward(text) == pytest.approx(-22 / (24000 / 5))
