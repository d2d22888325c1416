import collections
import random

from phi4r.evals.options import choice_prompt, choice_reference, draw_counts, read_choice_reference
from phi4r.verifiers.choice import ChoiceVerifier


def test_a_prompt_lists_the_options_and_says_how_to_answer():
    assert choice_prompt("Which?", ["red", "blue"]) == (
        "Which?\n\nA. red\nB. blue\n\nFinish with the letter of the right option in a box, as in \\boxed{A}."
    )


def test_the_reference_is_what_the_verifier_reads():
    reference = choice_reference(["red", "größer \u2028 \ud800", "blue"], 1)
    assert read_choice_reference(reference) == (["red", "größer \u2028 \ud800", "blue"], 1)
    assert ChoiceVerifier()(r"\boxed{B}", reference).correct
    assert not ChoiceVerifier()(r"\boxed{A}", reference).correct


def test_counts_are_four_neighbours_and_the_right_one_is_at_any_place_among_them():
    rng = random.Random(0)
    for right in (0, 1, 2, 3, 9):
        places, ranks = collections.Counter(), collections.Counter()
        for _ in range(800):
            counts = draw_counts(rng, right)
            assert len(set(counts)) == 4 and min(counts) >= 0 and max(counts) - min(counts) == 3
            places[counts.index(right)] += 1
            ranks[sorted(counts).index(right)] += 1
        assert set(places) == {0, 1, 2, 3} and min(places.values()) > 140
        assert set(ranks) == set(range(min(right, 3) + 1)) and min(ranks.values()) > 140
