"""BA-Calendar as published: its rows are read into the reference of our own calendar verifier.

Fields of a row: `task_prompt`; `constraints` (meeting_duration and buffer_time_before_and_after_meeting in minutes,
no_meetings_on_weekends, no_meetings_before and no_meetings_after as hours, no_meetings_during_specific_times as
"HH:MM-HH:MM", high_priority_meeting; null where there is none); `metadata.availability`, a mapping participant -> day
-> blocks written with single quotes; `params.days_of_week`.
"""

import json
from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import first_of, row_id, text_of
from phi4r.verifiers.calendar import NO_SLOT, CalendarVerifier
from phi4r.verifiers.meetings import Meeting, parse_block

_INSTRUCTION = f"""\
The meeting must lie within one free block of every participant. Where a buffer is asked for, every participant must be
free for so long before and after the meeting too, within the same block. A meeting of high priority takes the earliest
time that satisfies all conditions.

Reason step by step. End with one line that holds the day, the start and the end, in exactly this form:
Final Answer: Tuesday 09:30-10:15
If no time satisfies every condition, end with this line instead:
Final Answer: {NO_SLOT}"""


def _read(row: Mapping[str, Any], where: str) -> Problem:
    prompt = text_of(row, ("task_prompt", "prompt"), where)
    parts = [first_of(row, (key,), where) for key in ("constraints", "metadata", "params")]
    try:
        meeting = _meeting(*(json.loads(part) if isinstance(part, str) else part for part in parts))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: constraints, metadata and params do not describe a meeting ({error!r}).") from error
    constrainedness = meeting.constrainedness()
    meta = {
        "constrainedness": round(constrainedness, 4),
        "bucket": int(constrainedness * 10 + 1e-9) / 10,
        "solvable": meeting.earliest() is not None,
    }
    return Problem(row_id(row, (), prompt), f"{prompt}\n\n{_INSTRUCTION}", meeting.to_json(), meta)


def _meeting(constraints: Mapping[str, Any], metadata: Mapping[str, Any], params: Mapping[str, Any]) -> Meeting:
    availability = metadata["availability"]
    if isinstance(availability, str):
        availability = json.loads(availability.replace("'", '"'))
    during = constraints.get("no_meetings_during_specific_times")
    meeting = Meeting(
        days=tuple(params["days_of_week"]),
        availability={
            person: {day: tuple(map(parse_block, blocks)) for day, blocks in schedule.items() if blocks is not None}
            for person, schedule in availability.items()
        },
        duration=int(constraints["meeting_duration"]),
        buffer=int(constraints.get("buffer_time_before_and_after_meeting") or 0),
        no_weekend=bool(constraints.get("no_meetings_on_weekends")),
        before=_hour(constraints.get("no_meetings_before")),
        after=_hour(constraints.get("no_meetings_after")),
        during=parse_block(during) if during else None,
        priority=bool(constraints.get("high_priority_meeting")),
    )
    return Meeting.from_json(meeting.to_json())  # refuses what the verifier could not read


def _hour(value: Any) -> int | None:
    return 60 * int(value) if value else None


BA_CALENDAR_HUB = Benchmark(
    name="ba_calendar_hub",
    title="BA-Calendar (published)",
    hub="microsoft/ba-calendar",
    files="*.jsonl",
    licence="MIT",
    read=_read,
    make_verifier=CalendarVerifier,
    groups=("bucket", "solvable"),
    num_items=2000,
)
