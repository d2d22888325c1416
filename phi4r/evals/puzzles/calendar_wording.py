"""How a meeting to schedule is asked for and solved in words: in prose, and in few characters.

The short form counts in units from the opening hour and writes, for every unit of a day, who is free:

    prompt     cal 2 Mo 0:11 1:01 2:10 3:11 4:11=     two units long; both are free in units 0, 3 and 4
    thought    Mo 0:1 1:0 2:0 3:1 4:2                 how many units in a row all have been free
    solution   \\boxed{Mo 3}
"""

from collections.abc import Iterator

from phi4r.verifiers.calendar import NO_SLOT, SHORT_NO_SLOT
from phi4r.verifiers.meetings import WEEKEND, Interval, Meeting, block_text, clock_text, intersection

SHORT = "cal "


def full_prompt(meeting: Meeting) -> str:
    """Returns the question in prose, with the form of the answer."""
    schedules = []
    for person, schedule in meeting.availability.items():
        schedules.append(f"{person}:")
        schedules += [f"  {day}: {_list(schedule[day])}" for day in meeting.days]
    return "\n".join(
        [
            f"Find a time for a meeting of {len(meeting.availability)} people that suits all of them.",
            "",
            *(f"- {rule}" for rule in _rules(meeting)),
            "",
            "These are the free blocks of each person (24-hour clock):",
            *schedules,
            "",
            "Reason step by step. End with one line that holds the day, the start and the end, in exactly this form:",
            "Final Answer: Tuesday 09:30-10:15",
            "If no time satisfies every condition, end with this line instead:",
            f"Final Answer: {NO_SLOT}",
        ]
    )


def short_prompt(meeting: Meeting) -> str:
    """Returns the question in as few characters as can be: flags, then who is free in every unit of each day."""
    days = []
    for day in meeting.days:
        rows = [_bits(meeting, blocks) for blocks in meeting.blocks(day)]
        cells = (f"{unit}:{''.join(bits)}" for unit, bits in enumerate(zip(*rows, strict=True)))
        days.append(f"{day[:2]} {' '.join(cells)}")
    return f"{SHORT}{' '.join([*_flags(meeting), *days])}="


def full_solution(meeting: Meeting) -> tuple[str, str]:
    """Returns a thought that narrows each day down, person by person and rule by rule, and the answer."""
    need = meeting.duration + 2 * meeting.buffer
    lines = [f"The meeting takes {meeting.duration} minutes."]
    if meeting.buffer:
        lines.append(f"With {meeting.buffer} minutes on both sides it needs a common block of {need} minutes.")
    for day in meeting.days:
        if meeting.no_weekend and day in WEEKEND:
            lines.append(f"{day}: a weekend, excluded.")
            continue
        steps, windows = _narrowed(meeting, day)
        lines.append(f"{day}: {' '.join(steps)}")
        if windows:
            start = windows[0][0]
            slot = f"{day} {block_text((start, start + meeting.duration))}"
            lines.append(f"The first time that fits is {slot}.")
            return "\n".join(lines), f"Final Answer: {slot}"
    lines.append("No day has a time that fits.")
    return "\n".join(lines), f"Final Answer: {NO_SLOT}"


def short_solution(meeting: Meeting) -> tuple[str, str]:
    """Returns a thought that counts units in a row in which all are free, and the answer; x: a rule forbids it."""
    opens, unit = meeting.opens or 0, meeting.unit
    need, buffer = (meeting.duration + 2 * meeting.buffer) // unit, meeting.buffer // unit
    thought = []
    for day in meeting.days:
        thought.append(day[:2])
        if meeting.no_weekend and day in WEEKEND:
            thought.append("x")
            continue
        allowed = meeting.starts(day)
        rows = [_bits(meeting, blocks) for blocks in meeting.blocks(day)]
        run = 0
        for index, bits in enumerate(zip(*rows, strict=True)):
            run = run + 1 if set(bits) == {"1"} else 0
            start = index + 1 - need + buffer
            fits = any(first <= opens + unit * start <= last for first, last in allowed)
            thought.append(f"{index}:{run}{'x' if run >= need and not fits else ''}")
            if run >= need and fits:
                return " ".join(thought), f"\\boxed{{{day[:2]} {start}}}"
    return " ".join(thought), f"\\boxed{{{SHORT_NO_SLOT}}}"


def _rules(meeting: Meeting) -> Iterator[str]:
    yield f"The meeting lasts exactly {meeting.duration} minutes and lies within one free block of every person."
    if meeting.buffer:
        yield (
            f"Every person needs a buffer of {meeting.buffer} minutes right before and right after the meeting, which"
            " lies in the same free block."
        )
    if meeting.no_weekend:
        yield "It may not take place on a Saturday or a Sunday."
    if meeting.before is not None:
        yield f"It may not start before {clock_text(meeting.before)}."
    if meeting.after is not None:
        yield f"It may not end after {clock_text(meeting.after)}."
    if meeting.during is not None:
        first, last = map(clock_text, meeting.during)
        yield f"It may not overlap the time from {first} to {last} on any day."
    if meeting.priority:
        yield (
            "It has high priority: of all times that satisfy these conditions, take the first, that is the earliest"
            " day in the order of the lists and on that day the earliest start."
        )


def _narrowed(meeting: Meeting, day: str) -> tuple[list[str], list[Interval]]:
    """Returns what is written about a day, and the windows that are left of it, each long enough for the meeting."""
    steps: list[str] = []
    windows: list[Interval] = []
    for person, schedule in meeting.availability.items():
        own = list(schedule[day])
        windows = _lasting(intersection([windows, own]), 1) if steps else own
        steps.append(f"{person} {_list(own)}, in common {_list(windows)}." if steps else f"{person} {_list(own)}.")
        if not windows:
            return steps, []
    buffer = meeting.buffer
    if buffer:
        windows = [(first + buffer, last - buffer) for first, last in _lasting(windows, 2 * buffer)]
        steps.append(f"Without the buffers {_list(windows)}.")
    if meeting.before is not None:
        windows = intersection([windows, [(meeting.before, 24 * 60)]])
        steps.append(f"From {clock_text(meeting.before)} {_list(windows)}.")
    if meeting.after is not None:
        windows = intersection([windows, [(0, meeting.after)]])
        steps.append(f"Until {clock_text(meeting.after)} {_list(windows)}.")
    if meeting.during is not None:
        windows = intersection([windows, [(0, meeting.during[0]), (meeting.during[1], 24 * 60)]])
        steps.append(f"Outside {block_text(meeting.during)} {_list(windows)}.")
    windows = _lasting(windows, meeting.duration)
    steps.append(f"At least {meeting.duration} minutes: {_list(windows)}.")
    return steps, windows


def _lasting(windows: list[Interval], minutes: int) -> list[Interval]:
    return [window for window in windows if window[1] - window[0] >= minutes]


def _list(blocks: list[Interval] | tuple[Interval, ...]) -> str:
    return ", ".join(map(block_text, blocks)) or "none"


def _flags(meeting: Meeting) -> Iterator[str]:
    """Duration, b buffer, w no weekend, > earliest start, < latest end, ! excluded, p priority; all in units."""
    opens, unit = meeting.opens or 0, meeting.unit
    yield str(meeting.duration // unit)
    if meeting.buffer:
        yield f"b{meeting.buffer // unit}"
    if meeting.no_weekend:
        yield "w"
    if meeting.before is not None:
        yield f">{(meeting.before - opens) // unit}"
    if meeting.after is not None:
        yield f"<{(meeting.after - opens) // unit}"
    if meeting.during is not None:
        yield "!" + "-".join(str((time - opens) // unit) for time in meeting.during)
    if meeting.priority:
        yield "p"


def _bits(meeting: Meeting, blocks: tuple[Interval, ...]) -> str:
    """Returns for every unit of the day, until the last block of anybody ends, whether it lies in a block."""
    opens, unit = meeting.opens or 0, meeting.unit
    ends = max((last for rows in meeting.availability.values() for day in rows.values() for _, last in day), default=0)
    times = range(opens, ends, unit)
    return "".join("1" if any(first <= time < last for first, last in blocks) else "0" for time in times)
