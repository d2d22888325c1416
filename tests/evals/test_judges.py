import dataclasses

import pytest

from phi4r.data.records import Problem
from phi4r.evals.judges import (
    EQUIVALENCE,
    PAIRWISE,
    Judgement,
    ask_extraction,
    response_hash,
    solution_of,
)
from phi4r.evals.responses import Response

PROBLEM = Problem("a", "How many {cats}?", "the reference")


def response(item="a", run=0, *, text="<think>secret</think> ours ", reason="stop", correct=False, status="ok"):
    return Response(item, run, text, 9, reason, correct, float(correct), None, status)


def judgement(item, game, verdict, run=0):
    return Judgement(item, run, "", game, "", verdict)


def said(messages) -> str:
    (message,) = messages
    assert message["role"] == "user"
    return message["content"]


# What a judge is shown


def test_no_judge_sees_the_thought():
    judges = [EQUIVALENCE.ask(PROBLEM, response(), 0), *(PAIRWISE.ask(PROBLEM, response(), game) for game in (0, 1))]
    for messages in [*judges, ask_extraction(PROBLEM, response())]:
        assert "secret" not in said(messages) and "<think>" not in said(messages)
        assert "How many {cats}?" in said(messages) and "ours" in said(messages)


def test_the_solution_follows_the_last_thought():
    assert solution_of(response(text="<think>a</think>b</think> c\n")) == "c"
    assert solution_of(response(text="no thought")) == "no thought"


def test_the_sides_are_swapped_in_the_second_game():
    first, second = (said(PAIRWISE.ask(PROBLEM, response(), game)) for game in range(PAIRWISE.num_games))
    assert "## Answer of assistant A\nthe reference\n\n## Answer of assistant B\nours\n" in first
    assert "## Answer of assistant A\nours\n\n## Answer of assistant B\nthe reference\n" in second


def test_the_reference_is_shown_to_the_judge_of_equivalence_and_not_to_the_reader_of_answers():
    assert "the reference" in said(EQUIVALENCE.ask(PROBLEM, response(), 0))
    assert "the reference" not in said(ask_extraction(PROBLEM, response()))


@pytest.mark.parametrize(
    ("changes", "equivalence", "pairwise"),
    [
        ({}, True, True),
        ({"correct": True}, False, True),  # rules have found it right
        ({"reason": "length"}, False, False),
        ({"reason": "refused", "text": ""}, False, False),
        ({"text": "<think>a</think> \n"}, False, False),
    ],
)
def test_only_responses_with_a_solution_are_judged(changes, equivalence, pairwise):
    assert (EQUIVALENCE.wants(response(**changes)), PAIRWISE.wants(response(**changes))) == (equivalence, pairwise)


def test_another_answer_to_the_same_problem_has_another_hash():
    one = response()
    assert response_hash(one) == response_hash(dataclasses.replace(one, run=3))
    assert response_hash(one) != response_hash(dataclasses.replace(one, text=one.text + "."))
    assert len(response_hash(response(text="\ud800"))) == 16  # halves of characters too


# How a reply is read


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("It is 4, as asked.\nEquivalent: yes", "yes"),
        ("equivalent: NO", "no"),
        ("**Equivalent:** yes", "yes"),
        ("Equivalent: yes? No, 4 is not 5.\nEquivalent: no", "no"),  # the last one
        ("They are equivalent.", None),
        ("Equivalent: nothing", None),
        ("yes", None),
        ("", None),
    ],
)
def test_a_reply_about_equivalence_is_read(reply, verdict):
    assert EQUIVALENCE.read(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        *((f"Well.\nVerdict: [[{verdict}]]", verdict) for verdict in ("A>>B", "A>B", "A=B", "B>A", "B>>A")),
        ("At first [[A>B]], but then [[B>>A]] it is.", "B>>A"),
        ("Verdict: A>B", None),
        ("[[A<B]]", None),
        ("[[A>>>B]]", None),
        ("", None),
    ],
)
def test_a_reply_about_two_answers_is_read(reply, verdict):
    assert PAIRWISE.read(reply) == verdict


# Figures


def test_a_clear_verdict_counts_three_times_and_the_baseline_is_a_in_the_first_game():
    # Won 3 of 3 as B and 1 of 1 as A.
    figures = PAIRWISE.figures([response()], [judgement("a", 0, "B>>A"), judgement("a", 1, "A>B")])
    assert figures == {"win_rate": 1.0, "win_rate_low": 1.0, "win_rate_high": 1.0, "judged": 2.0, "unreadable": 0.0}
    # Lost 3 of 3 as B, won 1 of 1 as A.
    figures = PAIRWISE.figures([response()], [judgement("a", 0, "A>>B"), judgement("a", 1, "A>B")])
    assert figures["win_rate"] == 1 / 4
    # Half of 1, and lost 3 of 3 as A.
    figures = PAIRWISE.figures([response()], [judgement("a", 0, "A=B"), judgement("a", 1, "B>>A")])
    assert figures["win_rate"] == 0.5 / 4


def test_the_win_rate_and_its_interval_worked_by_hand():
    """Three problems with (points, games) of a (4, 4), b (0.5, 2) and c (0, 2), which was cut off.

    Of the 27 ways to draw three of them again, 1 is ccc with 0 and 3 are bcc with 0.5 of 6, the next of all: 5% lies
    among these. From above, 1 is aaa with 1 and 3 are aab with 8.5 of 10: 95% lies among these.
    """
    responses = [response("a"), response("b"), response("c", text="<think>so", reason="length")]
    judgements = [
        judgement("a", 0, "B>>A"),
        judgement("a", 1, "A>B"),
        judgement("b", 0, "A>B"),
        judgement("b", 1, "A=B"),
    ]
    figures = PAIRWISE.figures(responses, judgements)
    assert figures["win_rate"] == 4.5 / 8
    assert figures["win_rate_low"] == pytest.approx(0.5 / 6)
    assert figures["win_rate_high"] == pytest.approx(8.5 / 10)


def test_runs_of_a_problem_stay_together_in_the_interval():
    """One problem is one draw: there is nothing to be unsure about, however much its runs differ."""
    responses = [response("a", 0), response("a", 1)]
    judgements = [judgement("a", 0, "B>A"), judgement("a", 0, "A>B", run=1)]
    figures = PAIRWISE.figures(responses, judgements)
    assert figures["win_rate"] == figures["win_rate_low"] == figures["win_rate_high"] == 0.5


def test_an_unreadable_reply_is_counted_and_is_no_game():
    figures = PAIRWISE.figures([response()], [judgement("a", 0, None), judgement("a", 1, "A>B")])
    assert (figures["win_rate"], figures["judged"], figures["unreadable"]) == (1.0, 2.0, 1.0)
    assert PAIRWISE.figures([response()], [judgement("a", 0, None)]) == {"judged": 1.0, "unreadable": 1.0}


def test_responses_without_a_solution_lose_both_games():
    cut, empty = response("a", reason="length"), response("b", text="<think>a</think>")
    figures = PAIRWISE.figures([cut, empty, response("c")], [judgement("c", 0, "B>A"), judgement("c", 1, "A>B")])
    assert figures["win_rate"] == 2 / 6


def test_what_the_judge_of_equivalence_finds_is_added_to_what_rules_found():
    responses = [response("a", correct=True), response("b"), response("c"), response("d"), response("e", reason="?")]
    judgements = [judgement("b", 0, "yes"), judgement("c", 0, "no"), judgement("d", 0, None)]
    assert EQUIVALENCE.figures(responses, judgements) == {
        "accuracy": 2 / 5,
        "accuracy_by_rules": 1 / 5,
        "judged": 3.0,
        "found_right": 1.0,
        "unreadable": 1.0,
    }
