"""A meeting to schedule: free blocks of its participants, its constraints, and the slots that meet them.

Times are minutes after midnight. A slot is possible where it lies, with the buffer on both sides, in ONE free block of
every participant. The other limits (weekend, before, after, during) are on the meeting itself, without its buffers.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WEEKEND = DAYS[5:]

Interval = tuple[int, int]  # first and last minute

_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)", re.ASCII)


class Slot(NamedTuple):
    """When a meeting takes place."""

    day: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.day} {block_text((self.start, self.end))}"


@dataclasses.dataclass(frozen=True)
class Meeting:
    """What has to be scheduled.

    Attributes:
      days: the days in question, in the order in which they come.
      availability: participant -> day -> free blocks; a day that is missing has none.
      duration: of the meeting, in minutes.
      buffer: minutes that everybody must be free for before and after it.
      no_weekend: whether Saturday and Sunday are excluded.
      before: it may not start before this time, or None.
      after: it may not end after this time, or None.
      during: a time of every day that it may not overlap, or None.
      priority: whether it must be the earliest slot possible.
      opens: the time that short answers count from; None where there are no short answers.
      unit: minutes that short answers count in.
    """

    days: tuple[str, ...]
    availability: Mapping[str, Mapping[str, tuple[Interval, ...]]]
    duration: int
    buffer: int = 0
    no_weekend: bool = False
    before: int | None = None
    after: int | None = None
    during: Interval | None = None
    priority: bool = False
    opens: int | None = None
    unit: int = 5

    def to_json(self) -> str:
        """Returns the reference that `from_json` reads."""
        values = dataclasses.asdict(self)
        values["availability"] = {
            person: {day: [block_text(block) for block in blocks] for day, blocks in schedule.items()}
            for person, schedule in self.availability.items()
        }
        values["before"], values["after"] = (t if t is None else clock_text(t) for t in (self.before, self.after))
        values["during"] = None if self.during is None else block_text(self.during)
        return json.dumps(values)

    @classmethod
    def from_json(cls, reference: str) -> "Meeting":
        """Reads a reference.

        Raises:
          ValueError: if it is not what `to_json` writes.
        """
        try:
            return cls._from_values(json.loads(reference))
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a meeting: {error!r}") from error

    @classmethod
    def _from_values(cls, values: dict[str, Any]) -> "Meeting":
        times = {key: None if values.get(key) is None else parse_clock(values[key]) for key in ("before", "after")}
        during = None if values.get("during") is None else parse_block(values["during"])
        read = {**values, **times, "during": during, "days": tuple(values["days"])}
        read["availability"] = {
            person: {day: tuple(map(parse_block, blocks)) for day, blocks in schedule.items()}
            for person, schedule in values["availability"].items()
        }
        meeting = cls(**read)
        if not meeting.availability or meeting.duration < 1 or meeting.buffer < 0 or meeting.unit < 1:
            raise ValueError("not a meeting: it needs participants, a duration and a buffer")
        return meeting

    def blocks(self, day: str) -> list[tuple[Interval, ...]]:
        """Returns the free blocks of a day, one tuple for each participant."""
        return [schedule.get(day, ()) for schedule in self.availability.values()]

    def checks(self, slot: Slot) -> dict[str, bool]:
        """Returns whether a slot meets each constraint that this meeting has, by name."""
        checks = {
            "availability": self._inside(slot, 0),
            "duration": slot.end - slot.start == self.duration,
        }
        if self.buffer:
            checks["buffer"] = self._inside(slot, self.buffer)
        if self.no_weekend:
            checks["weekend"] = slot.day not in WEEKEND
        if self.before is not None:
            checks["before"] = slot.start >= self.before
        if self.after is not None:
            checks["after"] = slot.end <= self.after
        if self.during is not None:
            checks["during"] = slot.end <= self.during[0] or slot.start >= self.during[1]
        if self.priority:
            checks["priority"] = slot == self.earliest()
        return checks

    def earliest(self) -> Slot | None:
        """Returns the first slot that meets every constraint, or None where there is none."""
        for day in self.days:
            starts = self.starts(day)
            if starts:
                return Slot(day, starts[0][0], starts[0][0] + self.duration)
        return None

    def starts(self, day: str) -> list[Interval]:
        """Returns when the meeting may start on a day: disjoint ranges in order, both ends included."""
        if self.no_weekend and day in WEEKEND:
            return []
        ranges = intersection(starts_within(blocks, self.duration, self.buffer) for blocks in self.blocks(day))
        return within_limits(ranges, self, 0)

    def constrainedness(self, step: int = 5) -> float:
        """Returns 1 - feasible / unconstrained slots: 1 where there is no slot, near 0 where nearly all will do.

        Slots are counted that start at a multiple of `step` minutes; unconstrained are those that fit a free block of
        at least one participant.
        """
        feasible = unconstrained = 0
        for day in self.days:
            feasible += _count(self.starts(day), step)
            anyone = [block for blocks in self.blocks(day) for block in blocks]
            unconstrained += _count(starts_within(anyone, self.duration, 0), step)
        return 1 - feasible / unconstrained if unconstrained else 1.0

    def _inside(self, slot: Slot, margin: int) -> bool:
        """Whether one block of each participant holds the slot and `margin` minutes on both sides."""
        start, end = slot.start - margin, slot.end + margin
        return all(any(first <= start and end <= last for first, last in blocks) for blocks in self.blocks(slot.day))


def starts_within(blocks: Iterable[Interval], duration: int, margin: int) -> list[Interval]:
    """Returns when a meeting may start so that it and `margin` minutes on both sides lie in one of the blocks."""
    ranges: list[Interval] = []
    for first, last in sorted((first + margin, last - margin - duration) for first, last in blocks):
        if first > last:
            continue
        if ranges and first <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
        else:
            ranges.append((first, last))
    return ranges


def intersection(every: Iterable[list[Interval]]) -> list[Interval]:
    """Returns what lists of disjoint ranges in order have in common, again in order."""
    common: list[Interval] | None = None
    for ranges in every:
        common = ranges if common is None else [both for a in common for b in ranges if (both := _overlap(a, b))]
    return common or []


def within_limits(ranges: list[Interval], meeting: Meeting, margin: int) -> list[Interval]:
    """Returns the part of ranges of starts that keeps the meeting, widened by `margin`, to its times of day."""
    length = meeting.duration + margin
    if meeting.before is not None:
        ranges = intersection([ranges, [(meeting.before + margin, 24 * 60)]])
    if meeting.after is not None:
        ranges = intersection([ranges, [(0, meeting.after - length)]])
    if meeting.during is not None:
        first, last = meeting.during
        ranges = intersection([ranges, [(0, first - length), (last + margin, 24 * 60)]])
    return ranges


def clock_text(minutes: int) -> str:
    """Returns a time as HH:MM."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def block_text(block: Interval) -> str:
    """Returns a block as HH:MM-HH:MM."""
    return f"{clock_text(block[0])}-{clock_text(block[1])}"


def parse_clock(text: str) -> int:
    """Returns the minutes after midnight of H:MM or HH:MM.

    Raises:
      ValueError: if it is no time of day.
    """
    match = _CLOCK.fullmatch(text.strip())
    if not match or int(match[1]) > 24:
        raise ValueError(f"{text[:20]!r} is not a time of day; write it as 09:30")
    return 60 * int(match[1]) + int(match[2])


def parse_block(text: str) -> Interval:
    """Returns the block that HH:MM-HH:MM names.

    Raises:
      ValueError: if it is none.
    """
    first, _, last = text.partition("-")
    return parse_clock(first), parse_clock(last)


def _overlap(a: Interval, b: Interval) -> Interval | None:
    first, last = max(a[0], b[0]), min(a[1], b[1])
    return (first, last) if first <= last else None


def _count(ranges: list[Interval], step: int) -> int:
    """Returns how many multiples of `step` lie in the ranges."""
    return sum(last // step - (first - 1) // step for first, last in ranges)
