import pytest

from phi4r.verifiers.instructions.sentences import num_sentences


@pytest.mark.parametrize(
    ("text", "number"),  # the counts of NLTK's Punkt for English, but for the lists, of which it also counts numbers
    [
        ("", 0),
        ("no stop", 1),
        ("Hello there. How are you? I am fine!", 3),
        ("hello there. how are you? i am fine!", 3),
        ("HELLO MR. SMITH. HOW ARE YOU?", 2),
        ("He met Dr. Smith at 5 p.m. Then he left.", 2),
        ("I live in the U.S. and like it. J. K. Rowling wrote it, etc. and so on.", 2),
        ("It costs $3.50. That is cheap.", 2),
        ("He said no. She said yes.", 2),
        ("What?! Really?? Yes!!", 3),
        ('"Stop!" he said. Then he left.', 3),
        ("I saw it (really.) Then I left.", 2),
        ("Hello Mr. President. How are you?", 2),
        ("A heading\n\nText here. More text\n\nLast line", 2),
        ("Visit www.example.com. It is nice.", 2),
        ("First. *** ... Second.", 2),
        ("वह गया। वह आया।", 2),
        ("我来了。你走了吗\uff1f", 2),
    ],
)
def test_sentences_are_counted_as_a_reader_counts_them(text, number):
    assert num_sentences(text) == number


def test_numbers_of_list_items_are_sentences_only_where_they_are_asked_for():
    text = "1. Buy milk.\n2. Go home.\n3. Sleep well."
    assert (num_sentences(text), num_sentences(text, items=True)) == (3, 6)
    text = "Do this (1. wash it; 2. dry it)."
    assert num_sentences(text) == num_sentences(text, items=True) == 1
