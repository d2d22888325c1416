import pytest

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
