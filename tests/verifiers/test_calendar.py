import json
import time

import pytest

from phi4r.verifiers.calendar import CalendarVerifier
from phi4r.verifiers.meetings import Meeting, Slot


def _meeting(availability: dict[str, dict[str, str]], **constraints) -> str:
    schedules = {person: {day: blocks.split() for day, blocks in days.items()} for person, days in availability.items()}
    days = list(dict.fromkeys(day for schedule in schedules.values() for day in schedule))
    return json.dumps({"days": days, "availability": schedules, **constraints})


# Worked by hand. Monday has 09:30-10:30 and 13:00-14:00 in common, an hour each, and 45 minutes with two buffers need
# 65. On Tuesday the two blocks of Bob meet at 10:00 but are two; in 10:00-12:00 the first start is 10:10.
MEETING = _meeting(
    {
        "Ann": {"Monday": "09:00-10:30 13:00-15:00", "Tuesday": "09:00-12:00"},
        "Bob": {"Monday": "09:30-14:00", "Tuesday": "08:00-10:00 10:00-12:00"},
    },
    duration=45,
    buffer=10,
    before="09:30",
    after="14:30",
    during="12:00-13:10",
    priority=True,
)
CHECKS = ("format", "availability", "duration", "buffer", "before", "after", "during", "priority")


@pytest.mark.parametrize(
    ("slot", "failed"),
    [
        ("Tuesday 10:10-10:55", ()),
        ("Tuesday 10:15-11:00", ("priority",)),
        ("Tuesday 10:00-10:45", ("buffer", "priority")),
        ("Tuesday 09:50-10:35", ("availability", "buffer", "priority")),
        ("Tuesday 11:00-11:50", ("duration", "priority")),
        ("Tuesday 09:15-10:00", ("buffer", "before", "priority")),
        ("Wednesday 10:10-10:55", ("availability", "buffer", "priority")),
        ("Monday 13:00-13:45", ("buffer", "during", "priority")),
        ("Monday 13:50-14:35", ("availability", "buffer", "after", "priority")),
        ("Tuesday at ten", CHECKS),
        ("Tuesday 10:55-10:10", CHECKS),
        ("Tuesday 25:10-25:55", CHECKS),
        ("No common time slot available", CHECKS[1:]),
    ],
)
def test_each_check_is_judged_by_itself_and_the_score_is_the_share_passed(slot, failed):
    verdict = CalendarVerifier()(f"Final Answer: {slot}", MEETING)
    assert verdict.parts == {name: float(name not in failed) for name in CHECKS}
    assert verdict.score == pytest.approx((8 - len(failed)) / 8)
    assert (verdict.correct, verdict.status) == (not failed, "ok")


def test_a_check_that_the_meeting_does_not_have_is_no_part():
    free = _meeting({"Ann": {"Friday": "09:00-10:00", "Saturday": "09:00-10:00"}}, duration=30)
    assert set(CalendarVerifier()("Final Answer: Saturday 09:30-10:00", free).parts) == set(CHECKS[:3])
    weekdays = json.dumps({**json.loads(free), "no_weekend": True})
    verdict = CalendarVerifier()("Final Answer: Saturday 09:30-10:00", weekdays)
    assert (verdict.parts["weekend"], verdict.parts["availability"], verdict.correct) == (0.0, 1.0, False)


@pytest.mark.parametrize(
    "response",
    [
        "Final Answer: Tuesday 10:10-10:55",
        "Reason: ...\n**Final Answer:** Tuesday 10:10-10:55",
        "## Final Answer:\n Tuesday 10:10-10:55",
        "Final Answer: Monday 13:00-13:45, no. Final Answer: tuesday 10:10 - 10:55.",
        "Final Answer: Tuesday 10:10-10:55\n\nThis answer: it satisfies every condition.",
        "The final answer is `Tuesday 10:10\u201310:55`.",
        r"Final Answer: $\boxed{\text{Tuesday 10:10-10:55}}$",
        "Answer: Tuesday 10:10-10:55",
    ],
)
def test_the_last_answer_counts_in_any_dress(response):
    assert CalendarVerifier()(response, MEETING).correct


@pytest.mark.parametrize(
    "response", ["Tuesday 10:10-10:55", "Final Answer: Tuesday 10:10-10:55 or Tuesday 11:00-11:45", "I do not know."]
)
def test_an_answer_that_is_not_announced_or_hedged_is_wrong(response):
    assert not CalendarVerifier()(response, MEETING).correct


NO_SLOT = _meeting({"Ann": {"Monday": "09:00-10:00"}, "Bob": {"Monday": "09:45-11:00"}}, duration=30, priority=True)


@pytest.mark.parametrize(
    "response",
    [
        "Final Answer: No common time slot available",
        "They share a quarter of an hour.\n\nNo common time slot available.",
        "To answer: nothing fits.\n**No common time slot available**",
        "No common time slot available, for they share a quarter of an hour.",
        r"\boxed{none}",
    ],
)
def test_that_there_is_no_slot_is_right_where_there_is_none_and_never_for_the_published_scorer(response):
    verdict = CalendarVerifier()(response, NO_SLOT)
    assert (verdict.correct, verdict.score) == (True, 1.0)
    assert CalendarVerifier(compat=True)(response, NO_SLOT).score == 0.0
    assert not CalendarVerifier()(response, MEETING).correct


def test_a_slot_is_never_right_where_there_is_none():
    for slot in ("Monday 09:45-10:00", "Monday 09:45-10:15", "Monday 09:30-10:00"):
        assert not CalendarVerifier()(f"Final Answer: {slot}", NO_SLOT).correct


def test_the_published_scorer_expects_a_meeting_of_priority_on_the_last_day():
    meeting = _meeting(
        {"Ann": {"Monday": "09:00-12:00", "Tuesday": "09:00-12:00"}, "Bob": {"Monday": "10:00-12:00"}},
        duration=30,
        buffer=15,
        before="09:30",
        priority=True,
    )
    # Bob has no Tuesday, which leaves him out of it there; and the buffer, too, must begin at 09:30 or later.
    monday, tuesday = "Final Answer: Monday 10:15-10:45", "Final Answer: Tuesday 09:45-10:15"
    assert CalendarVerifier()(monday, meeting).correct
    assert CalendarVerifier(compat=True)(monday, meeting).parts["priority"] == 0.0
    assert CalendarVerifier()(tuesday, meeting).parts["priority"] == 0.0
    assert CalendarVerifier(compat=True)(tuesday, meeting).parts["priority"] == 1.0


@pytest.mark.parametrize(
    ("answer", "correct"), [("Mo 3", True), ("Mo 2", False), ("Mo 99", False), ("Tu 3", False), ("mo 3", False)]
)
def test_short_answers_count_the_start_in_units_from_the_opening_hour(answer, correct):
    meeting = _meeting({"Ann": {"Monday": "11:00-13:00"}}, duration=120, opens=480, unit=60)
    assert CalendarVerifier()(rf"\boxed{{{answer}}}", meeting).correct == correct


def test_short_answers_are_unreadable_where_the_question_has_none():
    assert CalendarVerifier()(r"\boxed{Tu 2}", MEETING).parts["format"] == 0.0


def test_a_thinking_model_is_judged_by_what_follows_its_thought():
    verifier = CalendarVerifier(thinking=True)
    assert verifier("<think>Final Answer: Tuesday 10:10-10:55", MEETING).status == "no_answer"
    assert verifier("<think>Final Answer: Monday 08:00-08:45</think>Final Answer: Tuesday 10:10-10:55", MEETING).correct
    assert verifier("<think>Final Answer: Tuesday 10:10-10:55</think>Well.", MEETING).status == "no_answer"


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "[]",
        "{}",
        "Tuesday",
        "[" * 100_000,
        _meeting({}, duration=30),
        _meeting({"Ann": {"Monday": "9-10"}}, duration=30),
        _meeting({"Ann": {"Monday": "09:00-10:00"}}, duration="30"),
        _meeting({"Ann": {"Monday": "09:00-10:00"}}, duration=30, colour="red"),
    ],
)
def test_a_malformed_reference_is_an_error_of_the_judge(reference):
    assert CalendarVerifier()("Final Answer: Monday 09:00-09:30", reference).status == "error"


@pytest.mark.parametrize(
    "hostile",
    [
        "Final Answer: " * 70_000,
        "Final Answer:" + " " * 1_000_000,
        "Final Answer: " + "Tuesday " * 100_000,
        "Final Answer: Tuesday " + "1" * 1_000_000 + ":00-11:00",
        r"\boxed{" * 140_000,
        r"\boxed{Tu " + "9" * 1_000_000 + "}",
        "No common time slot " * 50_000,
        "\ud800\x00" * 300_000,
        "Final Answer: Tuesday \u0661\u0660:10-10:55",
    ],
)
def test_hostile_answers_take_bounded_time_and_are_wrong(hostile):
    started = time.perf_counter()
    assert not CalendarVerifier()(hostile, MEETING).correct
    assert time.perf_counter() - started < 2.0


def test_constrainedness_is_one_minus_feasible_over_unconstrained_slots():
    # In quarters: both can start at 09:30; somebody can at 09:00, 09:15, 09:30, 09:45 and 10:00.
    meeting = Meeting.from_json(
        _meeting({"Ann": {"Monday": "09:00-10:00"}, "Bob": {"Monday": "09:30-10:30"}}, duration=30)
    )
    assert meeting.constrainedness(15) == pytest.approx(0.8)
    assert meeting.constrainedness(5) == pytest.approx(1 - 1 / 13)
    assert meeting.earliest() == Slot("Monday", 9 * 60 + 30, 10 * 60)
    assert Meeting.from_json(NO_SLOT).constrainedness() == 1.0


def test_a_meeting_survives_its_json():
    meeting = Meeting.from_json(MEETING)
    assert Meeting.from_json(meeting.to_json()) == meeting
    assert (meeting.before, meeting.during, meeting.buffer) == (570, (720, 790), 10)
