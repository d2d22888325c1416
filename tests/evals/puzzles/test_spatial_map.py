import collections
import itertools
import json
import re

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.puzzles.puzzle import PuzzleProblems
from phi4r.evals.puzzles.spatial_map import SPATIAL_MAP
from phi4r.evals.puzzles.spatial_statements import Closure, Statement

DIRECTION = "(northeast|northwest|southeast|southwest|NE|NW|SE|SW)"


def problems(num: int, split: str = "test", seed: int = 0, **parameters) -> list[Problem]:
    return list(PuzzleProblems(SPATIAL_MAP, num=num, seed=seed, split=split, **parameters))


def east_north(direction: str) -> tuple[bool, bool]:
    return direction.lower().endswith(("east", "e")), direction.lower().startswith("n")


class AllMaps:
    """All orders of the places, on either axis, that the statements of a prompt allow."""

    def __init__(self, prompt: str):
        lines = prompt.split("\n")
        found = [re.fullmatch(rf"(?:The )?(\w+) (?:is )?{DIRECTION} (?:of the )?(\w+)\.?", line) for line in lines]
        said = [match.groups() for match in found if match]
        self.places = sorted({name for subject, _, other in said for name in (subject, other)})
        self.statements = len(said)
        orders = [
            dict(zip(self.places, ranks, strict=True)) for ranks in itertools.permutations(range(len(self.places)))
        ]
        self.orders = [
            [order for order in orders if all((order[a] > order[b]) == east_north(d)[axis] for a, d, b in said)]
            for axis in range(2)
        ]

    def lies(self, subject: str, direction: str, other: str) -> bool | None:
        """True or False where all maps agree; the axes are independent of each other."""
        fits = [
            {(order[subject] > order[other]) == wanted for order in orders}
            for orders, wanted in zip(self.orders, east_north(direction), strict=True)
        ]
        return True if fits == [{True}] * 2 else False if {False} in fits else None


def right_option(problem: Problem) -> tuple[list[str], str]:
    reference = json.loads(problem.answer)
    return reference["options"], reference["options"]["ABCD".index(reference["letter"])]


def check(problem: Problem, asked: re.Match, anchor: str, direction: str | None) -> None:
    """Every question has one answer, the same on all maps that the text allows."""
    maps = AllMaps(problem.prompt)
    options, right = right_option(problem)
    assert len(maps.places) == problem.meta["objects"] and all(maps.orders)
    assert len(set(options)) == len(options)
    if problem.meta["question"] == "direction":
        assert [option for option in options if maps.lies(asked["subject"], option, anchor)] == [right]
        assert len(options) == 4
    elif problem.meta["question"] == "object":
        assert {option: maps.lies(option, direction, anchor) for option in options} == {
            option: option == right for option in options
        }
        assert len(options) == min(4, len(maps.places) - 1)
    else:
        lie = [maps.lies(place, direction, anchor) for place in maps.places if place != anchor]
        assert None not in lie and sum(lie) == int(right) and len(options) == 4


FULL = (
    r"\n\n(?:In which direction of the (?P<seen_from>\w+) is the (?P<subject>\w+)\?"
    r"|(?:Which of these places is|How many of the other places are) (?P<direction>\w+) of the (?P<anchor>\w+)\?)\n\n"
)
SHORT = r"\n(?:(?P<subject>\w) \? (?P<seen_from>\w)|[?#] (?P<direction>\w+) (?P<anchor>\w).*)$"


def test_what_is_asked_is_true_of_every_map_that_fits_the_text():
    counts = collections.Counter()
    for index, problem in enumerate(problems(90)):
        asked = re.search(FULL, problem.prompt)
        assert problem.meta["question"] == ("direction", "object", "count")[index % 3]
        check(problem, asked, asked["anchor"] or asked["seen_from"], asked["direction"])
        options, _ = right_option(problem)
        assert all(f"\n{letter}. {option}\n" in problem.prompt for letter, option in zip("ABCD", options, strict=True))
        assert AllMaps(problem.prompt).statements == 9
        counts[json.loads(problem.answer)["letter"]] += 1
    assert set(counts) == set("ABCD") and min(counts.values()) > 10


@pytest.mark.parametrize("objects", [3, 4, 5])
def test_short_questions_are_entailed_too(objects):
    for problem in problems(60, objects=objects, wording="short"):
        asked = re.search(SHORT, problem.prompt)
        check(problem, asked, asked["anchor"] or asked["seen_from"], asked["direction"])
        if problem.meta["question"] == "object":
            assert sorted(problem.prompt.split(": ")[1].split()) == sorted(right_option(problem)[0])
        assert objects > 3 or len(problem.prompt) < 40


def test_no_direction_is_asked_that_a_statement_gives_away():
    for problem in problems(60, question="direction"):
        asked = re.search(FULL, problem.prompt)
        pair = {asked["seen_from"], asked["subject"]}
        statements = re.findall(rf"^The (\w+) is {DIRECTION} of the (\w+)\.$", problem.prompt, re.MULTILINE)
        assert len(statements) == 9 and pair not in [{a, b} for a, _, b in statements]
        assert problem.meta["steps"] >= 2


# 1 is NE of 0, 2 is NE of 1, 3 is SE of 0: nothing says how 3 lies to 1 and 2 from west to east.
@pytest.mark.parametrize(
    ("subject", "direction", "other", "holds", "chains"),
    [
        (1, "NE", 0, True, ((0, [0, 1]), (1, [0, 1]))),
        (2, "NE", 0, True, ((0, [0, 1, 2]), (1, [0, 1, 2]))),
        (0, "SW", 2, True, ((0, [0, 1, 2]), (1, [0, 1, 2]))),
        (2, "NW", 0, False, ((0, [0, 1, 2]),)),
        (2, "SE", 0, False, ((1, [0, 1, 2]),)),
        (3, "NE", 2, False, ((1, [3, 0, 1, 2]),)),
        (3, "SE", 2, None, ()),
        (3, "SW", 2, None, ()),
        (3, "NW", 0, False, ((0, [0, 3]),)),
    ],
)
def test_entailment_is_the_closure_per_axis(subject, direction, other, holds, chains):
    closure = Closure([Statement(1, "NE", 0), Statement(2, "NE", 1), Statement(3, "SE", 0)], 4)
    finding = closure.decide(subject, direction, other)
    assert finding is None if holds is None else (finding.holds, finding.chains) == (holds, chains)


def test_the_direction_of_undetermined_pairs_is_none():
    closure = Closure([Statement(1, "NE", 0), Statement(2, "NE", 1), Statement(3, "SE", 0)], 4)
    assert closure.direction_of(3, 2) is None and closure.direction_of(2, 3) is None
    assert closure.direction_of(0, 2)[0] == "SW"


@pytest.mark.parametrize("wording", ["full", "short"])
@pytest.mark.parametrize("objects", [3, 4, 6, 9])
def test_the_verifier_takes_the_solvers_solution(objects, wording):
    verifier = SPATIAL_MAP.make_verifier(True)
    for problem in problems(60, split="train", objects=objects, wording=wording):
        trace = SPATIAL_MAP.solve(problem)
        response = trace.messages()[-1]["content"]
        assert verifier(response, problem.answer).correct, (problem.prompt, response)
        assert (trace.id, trace.prompt, trace.meta) == (problem.id, problem.prompt, problem.meta)
        if wording == "short":
            assert verifier(f"</think>\\boxed{{{json.loads(problem.answer)['letter']}}}", problem.answer).correct


@pytest.mark.parametrize(
    ("asked", "question", "options", "thought", "solution"),
    [
        ("I ? F", "direction", ["NW", "NE"], "x I>G>F E y I>G>F N", "\\boxed{NE}"),
        ("? NE F: H I", "object", ["H", "I"], "H y H<F - I x F<G<I y F<G<I +", "\\boxed{I}"),
        ("# NE F", "count", ["1", "2"], "G x F<G y F<G 1 H y H<F 1 I x F<G<I y F<G<I 2", "\\boxed{2}"),
    ],
)
def test_short_thoughts_chain_the_statements(asked, question, options, thought, solution):
    prompt = f"G NE F\nH SE F\nI NE G\n{asked}"
    answer = json.dumps({"letter": "B", "options": options})
    trace = SPATIAL_MAP.solve(Problem("p", prompt, answer, {"question": question, "wording": "short"}))
    assert (trace.thought, trace.solution, trace.answer) == (thought, solution, options[1])


def test_full_thoughts_chain_the_statements_in_words():
    said = "The mill is northeast of the zoo.\nThe inn is northwest of the mill.\nThe inn is northeast of the zoo."
    meta = {"question": "direction", "wording": "full"}
    answer = json.dumps({"letter": "A", "options": ["Northeast", "Southeast"]})
    prompt = f"{said}\n\nIn which direction of the zoo is the inn?"
    assert SPATIAL_MAP.solve(Problem("p", prompt, answer, meta)).thought.split("\n")[1:] == [
        "West to east: zoo < inn. So the inn is farther east.",
        "South to north: zoo < inn. So the inn is farther north.",
        "The inn is northeast of the zoo.",
        "That is option A, Northeast.",
    ]
    answer = json.dumps({"letter": "B", "options": ["1", "2"]})
    prompt = f"{said}\n\nHow many of the other places are northeast of the zoo?"
    thought = SPATIAL_MAP.solve(Problem("p", prompt, answer, {**meta, "question": "count"})).thought
    assert "The mill: west to east zoo < mill, south to north zoo < mill. Is northeast of the zoo, 1 so far." in thought


def test_no_map_is_in_two_splits_whatever_is_asked_about_it():
    maps = {
        split: {
            problem.prompt.rpartition("\n")[0]
            for seed, question in enumerate(("all", "direction", "object", "count"))
            for problem in problems(60, split=split, seed=seed, objects=4, question=question, wording="short")
        }
        for split in ("train", "test", "dev")
    }
    assert not maps["train"] & maps["test"] and not maps["train"] & maps["dev"] and not maps["test"] & maps["dev"]
    assert all(len(found) > 20 for found in maps.values())


def test_the_same_seed_gives_the_same_set():
    assert problems(9, seed=3) == problems(12, seed=3)[:9]
    assert problems(9, seed=3) != problems(9, seed=4)
    assert problems(3, objects=18)[2].meta["objects"] == 18


def test_numbers_of_objects_take_turns_between_the_fewest_and_the_most():
    found = problems(90, objects=5, min_objects=3, wording="short")
    cells = collections.Counter((problem.meta["question"], problem.meta["objects"]) for problem in found)
    assert len(cells) == 9 and set(cells.values()) == {10}
    for problem in found:
        names = set("".join(problem.prompt.split("\n")[:-1])) & set("FGHIJ")
        assert len(names) == problem.meta["objects"]
    assert problems(12, objects=4, min_objects=4) == problems(12, objects=4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"objects": 2}, "3 <= objects <= 18"),
        ({"objects": 19}, "3 <= objects <= 18"),
        ({"objects": 4, "min_objects": 5}, "3 <= min_objects <= objects=4"),
        ({"min_objects": 2}, "3 <= min_objects <= objects=6"),
        ({"question": "distance"}, "no question 'distance'"),
        ({"wording": "long"}, "no wording 'long'"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(UserError, match=message):
        problems(1, **parameters)


@pytest.mark.parametrize("prompt", ["", "G NE F", "G ? F", "chain 7 +3 ="])
def test_a_prompt_without_statements_or_question_is_refused(prompt):
    with pytest.raises(UserError, match="spatial_map"):
        SPATIAL_MAP.solve(Problem("p", prompt, '{"letter": "A", "options": ["1"]}', {"wording": "short"}))
