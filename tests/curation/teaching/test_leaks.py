import pytest

from phi4r.curation.teaching.leaks import copied_passages, mentions

GUIDELINES = (
    "Never give dosages of prescription drugs. Point the reader to a pharmacist, and stay friendly at all times."
)


def test_a_passage_of_the_source_is_found_where_it_stands():
    text = "Well: point the reader to a PHARMACIST and stay... friendly! Bye."
    assert copied_passages(text, GUIDELINES, num_words=8) == ["point the reader to a PHARMACIST and stay... friendly"]


def test_shorter_passages_are_chance():
    # "point the reader to a pharmacist" has 6 words.
    text = "I would point the reader to a pharmacist here."
    assert copied_passages(text, GUIDELINES, num_words=6) == ["point the reader to a pharmacist"]
    assert copied_passages(text, GUIDELINES, num_words=7) == []


def test_two_passages_are_two_and_overlapping_ngrams_are_one():
    text = "Never give dosages of prescription drugs, I thought. Stay friendly at all times."
    assert copied_passages(text, GUIDELINES, num_words=3) == [
        "Never give dosages of prescription drugs",
        "Stay friendly at all times",
    ]


def test_what_the_prompt_says_may_be_said_again():
    text = "Never give dosages of prescription drugs, you ask?"
    prompt = "Is 'never give dosages of prescription drugs' a good rule?"
    assert copied_passages(text, GUIDELINES, num_words=4) and not copied_passages(
        text, GUIDELINES, num_words=4, known=[prompt]
    )


def test_texts_that_are_too_short_hold_nothing():
    assert copied_passages("", GUIDELINES, num_words=3) == [] and copied_passages("a b c", "a b", num_words=3) == []


@pytest.mark.parametrize(
    "text",
    [
        "According to the guidelines, I may not say that.",
        "The safety guidelines forbid this.",
        "My policy is not to answer.",
        "As my system message says, no.",
        "The System\nPrompt tells me so.",
        "As instructed above, I keep it short.",
        "I was instructed not to talk about it.",
        "I\u2019ve been told to be careful.",
        "The rules above do not allow it.",
        "So it is.</think>",
    ],
)
def test_talk_about_instructions_is_found(text):
    assert len(mentions(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Follow the guidelines of the WHO on hand washing.",
        "The policy of the bank is on its website.",
        "As shown above, x = 2.",
        "Press the button, as described in the manual.",
        "The nervous system sends a message.",
        "I told him to rest, and I think it helped.",
        "Insurance policies differ.",
    ],
)
def test_other_talk_is_left_alone(text):
    assert mentions(text) == []
