import random

from phi4r.rl.repetition import RepetitionSettings, repetition_reward
from phi4r.viewing.repeats import repeated_spans

PAPER = RepetitionSettings()


def test_a_phrase_that_returns_is_marked_from_its_first_to_its_last_word():
    text = "start " + "wait let me check again\n" * 6 + "end"
    assert repeated_spans(text, PAPER) == [(6, 6 + 6 * 24 - 1)]


def test_a_phrase_that_returns_five_times_is_no_repetition():
    assert repeated_spans("wait let me check again " * 5, PAPER) == []


def test_phrases_with_other_words_between_them_are_apart():
    text = " ".join(f"a b c d e {i}" for i in range(6))
    assert [text[start:end] for start, end in repeated_spans(text, PAPER)] == ["a b c d e"] * 6


def test_characters_can_be_counted_instead_of_words():
    settings = RepetitionSettings(unit="characters", ngram_length=2, max_count=2)
    assert repeated_spans("ab\nab abz", settings) == [(0, 2), (3, 5), (6, 8)]
    assert repeated_spans("xaaaay", settings) == [(1, 5)]


def test_something_is_marked_exactly_where_the_reward_falls():
    rng = random.Random(0)
    settings = RepetitionSettings(ngram_length=2, max_count=3)
    rewards = []
    for _ in range(100):
        text = " ".join(rng.choices("abcd", k=rng.randrange(40)))
        rewards.append(repetition_reward(text, settings))
        assert bool(repeated_spans(text, settings)) == (rewards[-1] < 0)
    assert 20 < sum(reward < 0 for reward in rewards) < 80
