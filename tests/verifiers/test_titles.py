import json
import time

import pytest

from phi4r.verifiers.titles import TitlesVerifier, listed_titles

REFERENCE = json.dumps(
    {
        "satisfying": ["The Crying of Lot 49 (1966)", "Gravity's Rainbow"],
        "others": ["V. (1963)", "The Crying of Lot 49 (1966)", "Mason & Dixon: A Novel (1997)", "Café Society (1990)"],
        "ignored": ["Der Regenbogen", "V. (1963)", "Gravity's Rainbow: A Novel"],
    }
)
BOTH = "Output:\n1. Title: The Crying of Lot 49\n2. Title: Gravity's Rainbow"


def _parts(response, reference=REFERENCE):
    return TitlesVerifier()(response, reference).parts


def test_the_right_list_is_all_correct():
    verdict = TitlesVerifier()(BOTH, REFERENCE)
    assert (verdict.correct, verdict.score, verdict.status) == (True, 1.0, "ok")
    assert verdict.answer == "The Crying of Lot 49\nGravity's Rainbow"
    assert verdict.parts == {
        "satisfied": 1.0,
        "unsatisfied": 0.0,
        "not_from_author": 0.0,
        "completeness": 1.0,
        "all_correct": 1.0,
    }


def test_the_shares_of_a_mixed_list_sum_to_one():
    verdict = TitlesVerifier()(
        "Output:\n1. Title: Gravity's Rainbow\n2. Title: V.\n3. Title: Dune\n4. Title: Emma", REFERENCE
    )
    assert not verdict.correct
    assert verdict.parts == {
        "satisfied": 0.25,
        "unsatisfied": 0.25,
        "not_from_author": 0.5,
        "completeness": 0.5,
        "all_correct": 0.0,
    }
    assert verdict.score == 0.125


@pytest.mark.parametrize(
    "title",
    [
        "gravity's rainbow",
        "Gravity\u2019s Rainbow",
        "Gravitys Rainbow (1973)",
        "**Gravity's Rainbow**",
        '"Gravity\'s Rainbow."',
        "The Gravity's Rainbow",
        "Gravity's Rainbow: A Novel",
        "Gravity's Rainbow - 50th Anniversary Edition",
        "Gravity's Rainbow, or the War",
        "Gravity's Rainbov",
    ],
)
def test_spellings_of_a_title_are_one_book(title):
    parts = _parts(f"Output:\n1. Title: {title}\n2. Title: Crying of Lot 49\n3. Title: Gravity's Rainbow")
    assert parts["all_correct"] == 1.0


@pytest.mark.parametrize(
    "title", ["Rainbow", "Gravity", "V", "Gravity's Angels", "Mason and Dixon", "Cafe society", "Lot 4"]
)
def test_other_titles_are_not_that_book(title):
    assert _parts(f"Output:\n1. Title: {title}")["satisfied"] == 0.0


@pytest.mark.parametrize("title", ["V", "Mason and Dixon", "Cafe society", "Mason & Dixon (1997)"])
def test_a_book_of_the_author_that_does_not_satisfy_is_unsatisfied(title):
    assert _parts(f"Output:\n1. Title: {title}")["unsatisfied"] == 1.0


def test_titles_of_which_nothing_is_known_are_left_out():
    assert TitlesVerifier()(BOTH + "\n3. Title: Der Regenbogen", REFERENCE).correct


def test_numbered_volumes_and_subtitles_are_different_books():
    volumes = ["The Collected Letters Part 1", "Chronicle: The Fall"]
    reference = json.dumps({"satisfying": volumes, "others": [], "ignored": []})
    for title in ("The Collected Letters Part 2", "Chronicle: The Rise"):
        assert _parts(f"Output:\n1. Title: {title}", reference)["not_from_author"] == 1.0
    for title in ("Colected Letters Part 1", "Chronicle"):
        assert _parts(f"Output:\n1. Title: {title}", reference)["satisfied"] == 1.0


def test_an_empty_list_is_right_only_where_no_book_satisfies():
    empty = json.dumps({"satisfying": [], "others": ["V."], "ignored": []})
    assert TitlesVerifier()("Output:\nNone", empty).correct
    assert TitlesVerifier()("Output:\n1. Title: None", empty).correct
    assert _parts("Output:\nNone", empty)["completeness"] == 1.0
    wrong = TitlesVerifier()("Output:\nNone", REFERENCE)
    assert not wrong.correct and set(wrong.parts.values()) == {0.0} and wrong.status == "ok"
    assert _parts("Output:\n1. Title: V.", empty) == {
        "satisfied": 0.0,
        "unsatisfied": 1.0,
        "not_from_author": 0.0,
        "completeness": 1.0,
        "all_correct": 0.0,
    }


@pytest.mark.parametrize(
    ("response", "titles"),
    [
        ("Output:\n1. Reason: it fits. Title: V.\n2. Title: Emma (1815)", ["V", "Emma"]),
        ("Output:\n1. V\nOutput: \n* Emma\n- Dune", ["Emma", "Dune"]),
        ("**Output:**\n\n1) **Title:** *Emma*\nThat is all.", ["Emma"]),
        ("Here:\n1. Title: Emma\n2. Title: Dune", ["Emma", "Dune"]),
        ("### Output:\nNone", []),
        ("Output: none", []),
        ("I know none.", None),
        ("", None),
    ],
)
def test_the_last_list_is_read(response, titles):
    assert listed_titles(response) == titles


def test_no_list_scores_nothing():
    for verdict in (
        TitlesVerifier()("I am not sure.", REFERENCE),
        TitlesVerifier(thinking=True)("<think>" + BOTH, REFERENCE),
    ):
        assert (verdict.correct, verdict.status, set(verdict.parts.values())) == (False, "no_answer", {0.0})
    assert TitlesVerifier(thinking=True)("<think>Output:\n1. Title: V.</think>" + BOTH, REFERENCE).correct


@pytest.mark.parametrize(
    "reference", ["", "[]", "{}", '{"satisfying": 3}', '{"satisfying": [1], "others": [], "ignored": []}']
)
def test_a_malformed_reference_is_an_error_of_the_judge(reference):
    assert TitlesVerifier()(BOTH, reference).status == "error"


def test_hostile_lists_are_judged_in_bounded_time():
    books = [f"Volume {number} of the collected letters of a long and tiring life" for number in range(400)]
    reference = json.dumps({"satisfying": books[:9], "others": books, "ignored": []})
    for piece in (
        "1. Title: Volume of collected letters of long tiring lives\n",
        "Title:",
        "Output:\n",
        "1. ",
        "(1999)",
        "\ud800",
        "a\u0301",
        "[",
        " ",
    ):
        text = "Output:\n" + (piece * 300_000)[:1_000_000]
        start = time.process_time()
        assert TitlesVerifier()(text, reference).status in ("ok", "no_answer")
        assert time.process_time() - start < 3.0, piece
