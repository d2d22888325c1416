r"""The calendar verifier: a slot for a meeting, checked constraint by constraint.

Answers look like `Tuesday 09:30-10:15` or `No common time slot available`, announced by `Final Answer:` or boxed. The
short forms of small instances are `\boxed{Tu 3}` (the day, and the start counted in the units of the prompt) and
`\boxed{none}`.
"""

import re
from dataclasses import dataclass

from phi4r.verifiers.answers import END_OF_THOUGHT, final_answer, last_box
from phi4r.verifiers.meetings import (
    DAYS,
    WEEKEND,
    Meeting,
    Slot,
    intersection,
    parse_clock,
    starts_within,
    within_limits,
)
from phi4r.verifiers.verdict import Verdict, failed, judged, unanswered

NO_SLOT = "No common time slot available"
SHORT_NO_SLOT = "none"

_MAX_LENGTH = 120  # characters of an answer that are read
_ANNOUNCED = re.compile(r"final answer(?: is)?[\s:*]*", re.IGNORECASE)
_MARKUP = re.compile(r"\\text(?:bf|tt)?|[{}$*`\"'\\]")
_SLOT = re.compile(rf"({'|'.join(DAYS)}),?\s+(\d\d?:\d\d)\s*[-\u2013\u2014]\s*(\d\d?:\d\d)", re.IGNORECASE | re.ASCII)
_SHORT_SLOT = re.compile(rf"({'|'.join(day[:2] for day in DAYS)}) (\d{{1,4}})", re.ASCII)


@dataclass(frozen=True)
class CalendarVerifier:
    """Judges a slot against a meeting (a reference made by `Meeting.to_json`).

    `parts` holds 1 or 0 for each check that the meeting has: format, availability (one block of each participant holds
    the slot), duration, buffer, weekend, before, after, during, priority (the earliest slot). The score is the share
    passed; correct is an answer that passes all. That there is no slot is right, in every part, where there is none.

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
      compat: judge as the published scorer does, for comparisons with its figures: "no slot" is never right, and a
        meeting of priority is expected on the LAST day that has a slot, its buffers too within the times of day, its
        end strictly before the last time.
    """

    thinking: bool = False
    compat: bool = False

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict, in well under a millisecond; a reference that is no meeting is an "error"."""
        answer = calendar_answer(response, thinking=self.thinking)
        if answer is None:
            return unanswered()
        try:
            meeting = Meeting.from_json(reference)
        except ValueError:
            return failed("error", answer)
        parts = self._parts(answer, meeting)
        return judged(answer, all(parts.values()), score=sum(parts.values()) / len(parts), parts=parts)

    def quick(self, response: str, reference: str) -> Verdict:
        """Returns the verdict: every one is cheap."""
        return self(response, reference)

    def warm_up(self) -> None:
        """Has nothing to load."""

    def _parts(self, answer: str, meeting: Meeting) -> dict[str, float]:
        text = _plain(answer[:_MAX_LENGTH])
        slot = _slot(text, meeting)
        if slot is not None:
            parts = {"format": 1.0, **{name: float(passed) for name, passed in meeting.checks(slot).items()}}
            if self.compat and meeting.priority:
                parts["priority"] = float(slot == _published_priority(meeting))
            return parts
        refused = text.lower() in (NO_SLOT.lower(), SHORT_NO_SLOT)
        right = float(refused and not self.compat and meeting.earliest() is None)
        names = meeting.checks(Slot(DAYS[0], 0, 0))
        return {"format": float(refused and not self.compat), **dict.fromkeys(names, right)}


def calendar_answer(response: str, *, thinking: bool) -> str | None:
    """Returns the answer as written, or None.

    It is the last box, or what follows the last "Final Answer:" (else the last "answer:") on its line; but a last line
    that says nothing else than that there is no slot goes before them, and any such text counts where there is no other
    answer.
    """
    _, closed, solution = response.rpartition(END_OF_THOUGHT)
    if thinking and not closed:
        return None
    last_line = solution[-_MAX_LENGTH:].rstrip().rpartition("\n")[2]
    if _plain(last_line).lower() == NO_SLOT.lower():
        return NO_SLOT
    *_, announcement = [None, *_ANNOUNCED.finditer(solution)]
    answer = last_box(solution)
    if answer is None and announcement:
        answer = re.split(r"\.\s|\n", solution[announcement.end() :][:_MAX_LENGTH], maxsplit=1)[0]
    answer = answer or final_answer(solution)
    if answer is None and NO_SLOT.lower() in solution.lower():
        return NO_SLOT
    return answer


def _plain(answer: str) -> str:
    """Returns an answer without markup, quotes and the full stop."""
    return _MARKUP.sub("", answer).strip(" .\t\r\n")


def _slot(text: str, meeting: Meeting) -> Slot | None:
    """Reads a slot in the long or the short form; None where the text is neither."""
    match = _SLOT.fullmatch(text)
    if match:
        try:
            slot = Slot(match[1].capitalize(), parse_clock(match[2]), parse_clock(match[3]))
        except ValueError:
            return None
        return slot if slot.start < slot.end else None
    match = _SHORT_SLOT.fullmatch(text)
    if match and meeting.opens is not None:
        start = meeting.opens + int(match[2]) * meeting.unit
        return Slot(next(day for day in DAYS if day.startswith(match[1])), start, start + meeting.duration)
    return None


def _published_priority(meeting: Meeting) -> Slot | None:
    """Returns the slot that the published scorer takes for the earliest one."""
    slot = None
    for day in meeting.days:
        if meeting.no_weekend and day in WEEKEND:
            continue
        present = [schedule[day] for schedule in meeting.availability.values() if day in schedule]
        ranges = intersection(starts_within(blocks, meeting.duration, meeting.buffer) for blocks in present)
        ranges = within_limits(ranges, meeting, meeting.buffer)
        starts = [first for first, _ in ranges if first + meeting.duration + meeting.buffer != meeting.after]
        if starts:
            slot = Slot(day, starts[0], starts[0] + meeting.duration)
    return slot
