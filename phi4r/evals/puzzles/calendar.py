"""BA-Calendar: find a slot for a meeting in the free blocks of several people, under constraints.

Blocks lie on a grid of 15 minutes from 08:00 to 18:00 (parameters `grid` and `hours`); durations are 1, 2, 3, 4 or 6
cells of it and buffers 0, 1/3, 2/3, 1 or 2, which are the paper's 15 to 90 and 0 to 30 minutes. Constrainedness
(1 - feasible / unconstrained slots) is spread evenly over ten buckets, and one instance in eleven has no slot at all.

A small environment, for a model that learns from nothing:
`ba_calendar?participants=2&days=1&hours=6&grid=60&constraints=0&wording=short`.
"""

import dataclasses
import math
import random
from typing import Any

from phi4r.data.records import Problem, Trace
from phi4r.errors import UserError
from phi4r.evals.puzzles import calendar_wording as wordings
from phi4r.evals.puzzles.puzzle import Puzzle
from phi4r.evals.puzzles.words import PEOPLE
from phi4r.verifiers.calendar import CalendarVerifier
from phi4r.verifiers.meetings import DAYS, WEEKEND, Interval, Meeting

OPENS = 8 * 60
DURATIONS = (1, 2, 3, 4, 6)  # in cells of the grid
BUFFERS = (1, 2, 3, 6)  # in thirds of a cell
KINDS = ("buffer", "weekend", "before", "after", "during", "priority")

_NUM_BUCKETS = 11  # tenths of constrainedness; the last one has no slot
_GRIDS = (3, 6, 12, 15, 30, 60)  # divide the hour, and have thirds
_MAX_HOURS = 15
_TRIES = 24


@dataclasses.dataclass(frozen=True)
class Instance:
    """A meeting on a grid; times are minutes after midnight.

    Attributes:
      days: in order.
      free: for each participant and day a bit mask of free cells, the lowest bit at 08:00.
      grid: minutes of a cell.
      duration: of the meeting.
      buffer: free minutes before and after it.
      no_weekend: whether Saturday and Sunday are excluded.
      before: earliest start, or None.
      after: latest end, or None.
      during: times that are excluded, or None.
      priority: whether the earliest slot is asked for.
    """

    days: tuple[str, ...]
    free: tuple[tuple[int, ...], ...]
    grid: int
    duration: int
    buffer: int
    no_weekend: bool
    before: int | None
    after: int | None
    during: Interval | None
    priority: bool

    def meeting(self) -> Meeting:
        """Returns the reference of the verifier, with names for the participants."""
        names = PEOPLE[: len(self.free)]
        schedules = [{d: _blocks(mask, self.grid) for d, mask in zip(self.days, row, strict=True)} for row in self.free]
        return Meeting(
            days=self.days,
            availability=dict(zip(names, schedules, strict=True)),
            duration=self.duration,
            buffer=self.buffer,
            no_weekend=self.no_weekend,
            before=self.before,
            after=self.after,
            during=self.during,
            priority=self.priority,
            opens=OPENS,
            unit=math.gcd(self.grid, self.buffer),
        )

    def constrainedness(self) -> float:
        """Returns 1 - feasible / unconstrained slots, counted at every third of a cell."""
        return self.meeting().constrainedness(self.grid // 3)


def draw(
    rng: random.Random,
    index: int,
    *,
    participants: int,
    days: int,
    hours: int,
    grid: int,
    constraints: int,
    min_bucket: int,
    max_bucket: int,
    wording: str,
) -> Instance:
    """Draws an instance; `index` balances constrainedness, then participants (from 2), then days (from 1).

    How busy people are is adapted until the constrainedness falls into the bucket of `index`, one of those from
    `min_bucket` to `max_bucket` (tenths; 10 has no slot). Where small parameters have no such instance, the nearest one
    drawn is taken.

    Raises:
      UserError: for parameters out of range.
    """
    _check(participants, days, hours, grid, constraints, wording)
    if not 0 <= min_bucket <= max_bucket < _NUM_BUCKETS:
        raise UserError(
            f"ba_calendar needs 0 <= min_bucket <= max_bucket < {_NUM_BUCKETS}, not min_bucket={min_bucket}, "
            f"max_bucket={max_bucket}."
        )
    rest, target = divmod(index, max_bucket - min_bucket + 1)
    target += min_bucket
    num_participants, rest = 2 + rest % (participants - 1), rest // (participants - 1)
    num_days = 1 + rest % days
    cells = hours * 60 // grid
    # So busy that n people have a share 1 - c of their time in common, if all else were equal.
    busy = -math.log(1 - min(target + 0.5, 9.8) / 10) / num_participants
    nearest: tuple[int, Instance] | None = None
    for _ in range(_TRIES):
        instance = _sample(rng, num_participants, num_days, cells, grid, constraints, busy)
        miss = bucket_of(instance.constrainedness()) - target
        if nearest is None or abs(miss) < nearest[0]:
            nearest = abs(miss), instance
        if not miss:
            break
        busy *= 0.8 if miss > 0 else 1.25
    assert nearest is not None
    return nearest[1]


def pose(instance: Instance, *, wording: str, **_: int | str) -> tuple[str, str, dict[str, Any]]:
    """Returns the question, the meeting as JSON, and its constrainedness with what made it."""
    meeting = instance.meeting()
    constrainedness = instance.constrainedness()
    bucket = bucket_of(constrainedness)
    optional = (meeting.buffer, meeting.no_weekend, meeting.before, meeting.after, meeting.during, meeting.priority)
    meta = {
        "constrainedness": round(constrainedness, 4),
        "bucket": bucket / 10,
        "solvable": bucket < _NUM_BUCKETS - 1,
        "participants": len(instance.free),
        "days": len(instance.days),
        "num_constraints": sum(bool(value) for value in optional),
    }
    prompt = wordings.short_prompt(meeting) if wording == "short" else wordings.full_prompt(meeting)
    return prompt, meeting.to_json(), meta


def solve(problem: Problem) -> Trace:
    """Writes the worked solution: day by day what all have in common, until a slot fits."""
    meeting = Meeting.from_json(problem.answer)
    if problem.prompt.startswith(wordings.SHORT):
        thought, solution = wordings.short_solution(meeting)
    else:
        thought, solution = wordings.full_solution(meeting)
    return Trace(problem.id, problem.prompt, thought, solution, problem.answer, dict(problem.meta))


def bucket_of(constrainedness: float) -> int:
    """Returns the tenth that a constrainedness is in; 10 is that of meetings without a slot."""
    return int(constrainedness * 10 + 1e-9)


def _sample(
    rng: random.Random, participants: int, days: int, cells: int, grid: int, constraints: int, busy: float
) -> Instance:
    first = int(rng.random() * (len(DAYS) + 1 - days))
    names = DAYS[first : first + days]
    kinds = rng.sample(KINDS, int(rng.random() * (constraints + 1)))
    both = 0 < sum(day in WEEKEND for day in names) < days  # or else the weekend rules out nothing or everything
    free = tuple(tuple(_free_cells(rng, cells, busy) for _ in names) for _ in range(participants))
    start, length = int(rng.random() * cells), 1 + int(rng.random() * max(1, cells // 5))
    return Instance(
        days=names,
        free=free,
        grid=grid,
        duration=grid * rng.choice([d for d in DURATIONS if 3 * d <= cells] or [1]),
        buffer=rng.choice(BUFFERS) * grid // 3 if "buffer" in kinds else 0,
        no_weekend=both and "weekend" in kinds,
        before=OPENS + grid * rng.randint(1, max(1, cells // 2)) if "before" in kinds else None,
        after=OPENS + grid * rng.randint(cells // 2 + 1, max(cells // 2 + 1, cells - 1)) if "after" in kinds else None,
        during=(OPENS + grid * start, OPENS + grid * min(start + length, cells)) if "during" in kinds else None,
        priority="priority" in kinds,
    )


def _free_cells(rng: random.Random, cells: int, busy: float) -> int:
    """Returns a full day without busy stretches; `busy` is how many times over they would cover it on average."""
    mask, longest = (1 << cells) - 1, max(1, cells * 3 // 10)
    expected = busy * cells / ((1 + longest) / 2)
    for _ in range(int(2 * expected * rng.random() + rng.random())):
        length = 1 + int(rng.random() * longest)
        start = int(rng.random() * (cells + length - 1))  # counted from `length` - 1 cells before the day
        mask &= ~((((1 << length) - 1) << start) >> (length - 1))
    return mask


def _blocks(mask: int, grid: int) -> tuple[Interval, ...]:
    """Returns the runs of free cells as blocks."""
    blocks, at = [], OPENS
    while mask:
        skipped = (mask & -mask).bit_length() - 1
        mask >>= skipped
        length = (~mask & (mask + 1)).bit_length() - 1
        mask >>= length
        blocks.append((at + grid * skipped, at + grid * (skipped + length)))
        at += grid * (skipped + length)
    return tuple(blocks)


def _check(participants: int, days: int, hours: int, grid: int, constraints: int, wording: str) -> None:
    limits = (
        ("participants", participants, 2, len(PEOPLE)),
        ("days", days, 1, len(DAYS)),
        ("hours", hours, 1, _MAX_HOURS),
        ("constraints", constraints, 0, len(KINDS)),
    )
    for name, value, least, most in limits:
        if not least <= value <= most:
            raise UserError(f"ba_calendar needs {least} <= {name} <= {most}, not {name}={value}.")
    if grid not in _GRIDS:
        raise UserError(f"ba_calendar has no grid={grid}; take one of {', '.join(map(str, _GRIDS))} minutes.")
    if wording not in ("full", "short"):
        raise UserError(f"ba_calendar has no wording={wording}; take full or short.")


BA_CALENDAR = Puzzle(
    name="ba_calendar",
    title="BA-Calendar",
    draw=draw,
    pose=pose,
    make_verifier=CalendarVerifier,
    parameters={
        "participants": 8,
        "days": 7,
        "hours": 10,
        "grid": 15,
        "constraints": len(KINDS),
        "min_bucket": 0,
        "max_bucket": _NUM_BUCKETS - 1,
        "wording": "full",
    },
    num_items=2000,
    groups=("bucket", "solvable", "num_constraints"),
    level="bucket",
    solve=solve,
)
