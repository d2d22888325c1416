import copy
import json

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.ba_calendar import BA_CALENDAR_HUB

ROW = {
    "task_prompt": "Schedule a meeting of 30 minutes with a buffer of 10 minutes for p1 and p2.",
    "constraints": {
        "meeting_duration": 30,
        "buffer_time_before_and_after_meeting": 10,
        "no_meetings_on_weekends": True,
        "no_meetings_before": 9,
        "no_meetings_after": "17",
        "no_meetings_during_specific_times": "12:00-13:00",
        "high_priority_meeting": True,
    },
    "metadata": {
        "availability": "{'p1': {'Monday': ['8:00-10:00', '11:00-14:00']}, 'p2': {'Monday': ['09:00-15:00']}}"
    },
    "params": {"days_of_week": ["Monday", "Sunday"], "granularity": 5},
}


def test_a_published_row_becomes_a_question_that_the_verifier_judges():
    problem = BA_CALENDAR_HUB.read(ROW, "f:1")
    assert problem.prompt.startswith(ROW["task_prompt"])
    assert "Final Answer: Tuesday 09:30-10:15" in problem.prompt
    verifier = BA_CALENDAR_HUB.make_verifier(thinking=True)
    verdict = verifier("<think>?</think>Final Answer: Monday 09:10-09:40", problem.answer)
    assert verdict.correct
    assert set(verdict.parts) == {
        *("format", "availability", "duration", "buffer", "weekend", "before", "after", "during", "priority")
    }
    assert verifier("</think>Final Answer: Monday 09:00-09:30", problem.answer).parts["buffer"] == 0.0


def test_constraints_that_are_null_or_missing_are_none():
    row = copy.deepcopy(ROW)
    row["constraints"] = {"meeting_duration": 30, "no_meetings_before": None, "no_meetings_during_specific_times": ""}
    row["metadata"] = json.dumps(row["metadata"])
    verdict = BA_CALENDAR_HUB.make_verifier()(
        "Final Answer: Monday 13:30-14:00", BA_CALENDAR_HUB.read(row, "f:1").answer
    )
    assert verdict.correct
    assert set(verdict.parts) == {"format", "availability", "duration"}


def test_constrainedness_is_counted_in_steps_of_five_minutes():
    # Starts: feasible 09:10-09:20, 11:10-11:30 and 13:00-13:20, in steps of five 3 + 5 + 5; unconstrained 8:00-14:30.
    assert BA_CALENDAR_HUB.read(ROW, "f:1").meta["constrainedness"] == pytest.approx(1 - 13 / 79, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task_prompt": ""}, "task_prompt"),
        ({"constraints": None}, "constraints"),
        ({"constraints": {}}, "do not describe a meeting"),
        ({"metadata": {"availability": "{"}}, "do not describe a meeting"),
        ({"metadata": {"availability": {}}}, "do not describe a meeting"),
        ({"params": ["Monday"]}, "do not describe a meeting"),
    ],
)
def test_a_malformed_row_is_named(change, message):
    with pytest.raises(UserError, match=message) as error:
        BA_CALENDAR_HUB.read({**ROW, **change}, "file.jsonl:7")
    assert str(error.value).startswith("file.jsonl:7")
