import pytest

from phi4r.curation.intake.texts import comparable, tidied


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  one \t\r\ntwo\rthree \n\n", "one\ntwo\nthree"),
        ("e\u0301", "\u00e9"),
        ("a\x00b\x1bc\x7f", "abc"),
        ("zero\u200bwidth\ufeff soft\u00adhyphen", "zerowidth softhyphen"),
        ("no\u00a0break", "no break"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("a\tb\nc", "a\tb\nc"),
        (" \n ", ""),
    ],
)
def test_text_is_tidied_without_a_change_that_a_reader_sees(text, expected):
    assert tidied(text) == expected
    assert tidied(expected) == expected


SAME = [
    ("How many apples are left?", "HOW MANY APPLES ARE LEFT"),
    ("Tom, who is 5, sees: a cat.", "tom who is 5 sees a cat"),
    ("It costs 3.50.", "it costs 3.50"),
    ('He said "yes" .', "He said yes."),
    ("don\u2019t", "don't"),
    ("one\n\n  two", "one two"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_prompts_that_differ_in_capitals_marks_and_blanks_compare_as_equal(one, other):
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("3.5", "35"), ("3 - 4", "3 + 4"), ("3*4", "3 4"), ("n!", "n"), ("f'(x)", "f(x)"), (".5", "5"), ("1:30", "1 30")],
)
def test_different_formulas_stay_different(one, other):
    assert comparable(f"Find {one} now.") != comparable(f"Find {other} now.")
