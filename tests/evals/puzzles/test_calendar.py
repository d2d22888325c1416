import collections
import json
import re

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.puzzles.calendar import BA_CALENDAR, KINDS
from phi4r.evals.puzzles.puzzle import PuzzleProblems
from phi4r.verifiers.calendar import NO_SLOT, CalendarVerifier

TINY = dict(participants=2, days=1, hours=6, grid=60, constraints=0, wording="short")


def _problems(num: int, *, split: str = "test", **parameters) -> list[Problem]:
    return list(PuzzleProblems(BA_CALENDAR, num=num, seed=0, split=split, **parameters))


def _minutes(clock: str) -> int:
    return 60 * int(clock[:2]) + int(clock[3:])


def _slots_by_search(prompt: str) -> tuple[list[tuple[str, int]], int, int]:
    """Reads a prompt in full wording and tries every start at a multiple of five minutes.

    Returns the feasible slots in order, how many fit a block of somebody, and the duration.
    """
    number = {
        name: int(match[1]) if (match := re.search(pattern, prompt)) else 0
        for name, pattern in (("duration", r"lasts exactly (\d+) minutes"), ("buffer", r"a buffer of (\d+) minutes"))
    }
    before = re.search(r"not start before (\S+)\.", prompt)
    after = re.search(r"not end after (\S+)\.", prompt)
    during = re.search(r"time from (\S+) to (\S+) on", prompt)
    duration, buffer = number["duration"], number["buffer"]
    lists = prompt.split("24-hour clock):\n")[1].split("\n\n")[0]
    free: dict[str, dict[str, list[tuple[int, int]]]] = collections.defaultdict(dict)
    for line in lists.splitlines():
        if not line.startswith(" "):
            person = line.rstrip(":")
            continue
        day, _, blocks = line.strip().partition(": ")
        ends = re.findall(r"(\d\d:\d\d)-(\d\d:\d\d)", blocks)
        free[day][person] = [(_minutes(first), _minutes(last)) for first, last in ends]
    feasible, unconstrained = [], 0
    for day, people in free.items():
        for start in range(0, 24 * 60, 5):
            end = start + duration
            unconstrained += any(a <= start and end <= b for blocks in people.values() for a, b in blocks)
            fits = all(any(a <= start - buffer and end + buffer <= b for a, b in blocks) for blocks in people.values())
            fits &= not (day in ("Saturday", "Sunday") and "not take place on a Saturday" in prompt)
            fits &= not before or start >= _minutes(before[1])
            fits &= not after or end <= _minutes(after[1])
            fits &= not during or not any(_minutes(during[1]) <= t < _minutes(during[2]) for t in range(start, end))
            if fits:
                feasible.append((day, start))
    return feasible, unconstrained, duration


def _slot(day: str, start: int, duration: int) -> str:
    clock = "-".join(f"{time // 60:02}:{time % 60:02}" for time in (start, start + duration))
    return f"Final Answer: {day} {clock}"


def test_the_verifier_agrees_with_a_search_over_the_words_of_the_prompt():
    verifier = CalendarVerifier()
    for problem in _problems(120):
        feasible, unconstrained, duration = _slots_by_search(problem.prompt)
        assert problem.meta["constrainedness"] == pytest.approx(1 - len(feasible) / unconstrained, abs=1e-4)
        assert problem.meta["solvable"] == bool(feasible)
        right = feasible[:1] if "high priority" in problem.prompt else feasible
        days = re.findall(r"^  (\w+):", problem.prompt, re.MULTILINE)
        for day in dict.fromkeys(days):
            for start in range(8 * 60, 18 * 60, 5):
                assert verifier(_slot(day, start, duration), problem.answer).correct == ((day, start) in right)
        assert verifier(f"Final Answer: {NO_SLOT}", problem.answer).correct == (not feasible)


def test_constrainedness_participants_and_days_are_balanced():
    problems = _problems(1078)  # each participant count meets each day count twice in every bucket
    buckets = collections.Counter(problem.meta["bucket"] for problem in problems)
    assert set(buckets) == {tenth / 10 for tenth in range(11)}
    assert min(buckets.values()) > 80
    assert set(collections.Counter(p.meta["participants"] for p in problems).values()) == {154}
    assert set(collections.Counter(p.meta["days"] for p in problems).values()) == {154}
    assert {problem.meta["num_constraints"] for problem in problems} == set(range(7))
    references = [json.loads(problem.answer) for problem in problems]
    assert {reference["duration"] for reference in references} == {15, 30, 45, 60, 90}
    assert {reference["buffer"] for reference in references} == {0, 5, 10, 15, 30}
    times = {
        int(clock[3:])
        for reference in references
        for schedule in reference["availability"].values()
        for blocks in schedule.values()
        for block in blocks
        for clock in block.split("-")
    }
    assert times == {0, 15, 30, 45}


@pytest.mark.parametrize("parameters", [{}, {"wording": "short"}, TINY, {**TINY, "constraints": 6, "days": 7}])
def test_the_verifier_accepts_the_worked_solution(parameters):
    verifier = BA_CALENDAR.make_verifier(True)
    for problem in _problems(200, **parameters):
        trace = BA_CALENDAR.solve(problem)
        verdict = verifier(f"<think>{trace.thought}</think>{trace.solution}", trace.answer)
        assert verdict.correct, (problem, trace)
        assert (trace.id, trace.prompt) == (problem.id, problem.prompt)


def test_both_wordings_ask_for_the_same_meetings():
    for full, short in zip(_problems(40), _problems(40, wording="short"), strict=True):
        assert (full.answer, full.meta) == (short.answer, short.meta)
        assert full.prompt != short.prompt


def test_a_small_instance_is_short_and_its_thought_counts_free_units():
    answer = json.dumps(
        {
            "days": ["Monday"],
            "availability": {"Alice": {"Monday": ["08:00-09:00", "10:00-13:00"]}, "Ben": {"Monday": ["08:00-13:00"]}},
            "duration": 120,
            "opens": 480,
            "unit": 60,
        }
    )
    trace = BA_CALENDAR.solve(Problem("x", "cal 2 Mo 0:11 1:01 2:11 3:11 4:11=", answer))
    assert (trace.thought, trace.solution) == ("Mo 0:1 1:0 2:1 3:2", r"\boxed{Mo 2}")
    for problem in _problems(50, **TINY):
        assert len(problem.prompt) < 50


def test_splits_of_small_instances_never_share_a_prompt():
    prompts = {split: {p.prompt for p in _problems(400, split=split, **TINY)} for split in ("train", "dev", "test")}
    assert not prompts["train"] & prompts["test"]
    assert not prompts["dev"] & prompts["test"]
    assert len(prompts["train"]) > 200


def test_a_longer_set_begins_with_the_shorter_one_and_seeds_differ():
    assert _problems(30)[:10] == _problems(10)
    other = PuzzleProblems(BA_CALENDAR, num=10, seed=1, split="test")
    assert not {p.prompt for p in other} & {p.prompt for p in _problems(10)}


def test_buckets_take_turns_between_the_least_and_the_most_constrained():
    found = _problems(200, min_bucket=5, max_bucket=9)
    near = [abs(problem.meta["bucket"] - (5 + index % 5) / 10) < 0.15 for index, problem in enumerate(found)]
    assert sum(near) > 190
    assert _problems(22, min_bucket=0, max_bucket=10) == _problems(22)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(participants=1), "2 <= participants <= 26"),
        (dict(days=8), "1 <= days <= 7"),
        (dict(hours=16), "1 <= hours <= 15"),
        (dict(constraints=len(KINDS) + 1), "0 <= constraints <= 6"),
        (dict(grid=7), "grid=7"),
        (dict(min_bucket=5, max_bucket=4), "0 <= min_bucket <= max_bucket < 11"),
        (dict(max_bucket=11), "0 <= min_bucket <= max_bucket < 11"),
        (dict(wording="long"), "full or short"),
    ],
)
def test_parameters_without_instances_are_refused(parameters, message):
    with pytest.raises(UserError, match=message):
        _problems(1, **parameters)
