import collections
import itertools
import json
import re

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.puzzles.maze import MAZE, Maze, pose
from phi4r.evals.puzzles.maze_drawing import find_path, turns
from phi4r.evals.puzzles.puzzle import PuzzleProblems

MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))
U_TURN = (" # ", " # ", "   ")  # two cells side by side, joined below


def problems(num: int, split: str = "test", seed: int = 0, **parameters) -> list[Problem]:
    return list(PuzzleProblems(MAZE, num=num, seed=seed, split=split, **parameters))


def drawing_of(prompt: str) -> dict[tuple[int, int], str]:
    """The characters of the drawing that are no wall, by row and column."""
    lines = [line for line in prompt.split("\n") if re.fullmatch("[# .xXSE]{2,}", line)]
    return {(r, c): char for r, line in enumerate(lines) for c, char in enumerate(line) if char != "#"}


def walk(floor: dict[tuple[int, int], str]) -> list[tuple[int, int]]:
    """The way from S to E, character by character, by breadth-first search over all open floor."""
    (start,), (end,) = ([place for place, char in floor.items() if char == letter] for letter in "SE")
    before, queue = {start: start}, collections.deque([start])
    while queue:
        row, column = queue.popleft()
        for down, along in MOVES:
            there = (row + down, column + along)
            if there in floor and there not in before:
                before[there] = (row, column)
                queue.append(there)
    assert len(before) == len(floor)
    way = [end]
    while way[-1] != start:
        way.append(before[way[-1]])
    return way[::-1]


def turns_by_cross_products(way: list[tuple[int, int]]) -> tuple[int, int]:
    """Right turns and all turns; with rows counted downwards a positive product is a clockwise turn."""
    moves = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(way)]
    products = [a[1] * b[0] - a[0] * b[1] for a, b in itertools.pairwise(moves)]
    return sum(product > 0 for product in products), sum(product != 0 for product in products)


def lies(question: str, start: tuple[int, int], end: tuple[int, int]) -> bool:
    """Whether the sentence about E and S is true."""
    said = re.search(r"Is E (.*) S\?", question)[1]
    rows = -1 if "above" in said else 1 if "below" in said else 0
    columns = -1 if "left" in said else 1 if "right" in said else 0
    return ((end[0] > start[0]) - (end[0] < start[0]), (end[1] > start[1]) - (end[1] < start[1])) == (rows, columns)


def test_turns_of_a_path_worked_by_hand():
    way = find_path(U_TURN, (0, 0), (0, 1))
    assert way == [(0, 0), (1, 0), (1, 1), (0, 1)]
    assert turns(way) == ["left", "left"]  # down, right, up
    assert turns(way[::-1]) == ["right", "right"]  # down, left, up
    assert turns([(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (2, 1)]) == ["", "right", "right", "left"]
    assert turns(way[:1]) == turns(way[:2]) == []


@pytest.mark.parametrize(
    ("start", "end", "question", "relation", "full", "short", "right"),
    [
        ((0, 0), (0, 1), "turns", (0, 1), "#####\n#S#E#\n#X#X#\n#XXX#\n#####", "turns\nS#E\nx#x\nxxx", "2"),
        ((0, 0), (0, 1), "right_turns", (0, 1), "#####\n#S#E#\n#X#X#\n#XXX#\n#####", "right\nS#E\nx#x\nxxx", "0"),
        ((0, 1), (0, 0), "right_turns", (0, 1), "#####\n#E#S#\n#X#X#\n#XXX#\n#####", "right\nE#S\nx#x\nxxx", "2"),
        ((1, 0), (0, 1), "relation", (-1, 1), "#####\n# #E#\n# #X#\n#SXX#\n#####", "E ur S\n.#E\n.#x\nSxx", "Yes"),
        ((1, 0), (1, 1), "relation", (1, 0), "#####\n# # #\n# # #\n#SXE#\n#####", "E d S\n.#.\n.#.\nSxE", "No"),
    ],
)
def test_small_mazes_are_posed_as_drawn_by_hand(start, end, question, relation, full, short, right):
    maze = Maze(U_TURN, start, end, question, (0, 2, 1, 3) if question != "relation" else (), relation)
    prompt, answer, meta = pose(maze, size=2, question="all", wording="full")
    reference = json.loads(answer)
    assert f"\n\n{full}\n\n" in prompt
    assert reference["options"]["ABCD".index(reference["letter"])] == right
    assert (meta["question"], meta["wording"], meta["size"]) == (question, "full", 2)
    assert pose(maze, size=2, question="all", wording="short")[:2] == (short, answer)


def test_the_whole_evaluation_set_is_right_by_another_route():
    counts = collections.Counter()
    for index, problem in enumerate(problems(MAZE.num_items)):
        floor = drawing_of(problem.prompt)
        way = walk(floor)
        assert len(floor) == 10 * 10 + 99 and len(way) - 1 == 2 * problem.meta["path_length"]
        assert {place for place, char in floor.items() if char != " "} == set(way)
        right_turns, all_turns = turns_by_cross_products(way)
        reference = json.loads(problem.answer)
        options, right = reference["options"], reference["options"]["ABCD".index(reference["letter"])]
        assert problem.meta["question"] == ("right_turns", "turns", "relation")[index % 3]
        assert all(f"\n{letter}. {option}\n" in problem.prompt for letter, option in zip("ABCD", options, strict=False))
        if problem.meta["question"] == "relation":
            assert options == ["Yes", "No"] and (right == "Yes") == lies(problem.prompt, way[0], way[-1])
        else:
            assert len(set(options)) == 4
            assert int(right) == (right_turns if problem.meta["question"] == "right_turns" else all_turns)
        counts[problem.meta["question"], reference["letter"]] += 1
    assert counts["relation", "A"] == counts["relation", "B"] == 250
    assert all(counts[question, letter] > 90 for question in ("right_turns", "turns") for letter in "ABCD")


@pytest.mark.parametrize("wording", ["full", "short"])
@pytest.mark.parametrize("size", [2, 3, 10, 13])
def test_the_verifier_takes_the_solvers_solution(size, wording):
    verifier = MAZE.make_verifier(True)
    for problem in problems(75, split="train", size=size, wording=wording):
        trace = MAZE.solve(problem)
        response = trace.messages()[-1]["content"]
        verdict = verifier(response, problem.answer)
        assert verdict.correct, (problem.prompt, response)
        assert (trace.id, trace.prompt, trace.meta) == (problem.id, problem.prompt, problem.meta)
        if wording == "short":
            assert verifier(f"</think>\\boxed{{{json.loads(problem.answer)['letter']}}}", problem.answer).correct
    if wording == "short" and size == 3:
        assert len(problem.prompt) < 40 and len(response) < 120


def test_thoughts_say_every_step_of_the_path():
    left, right = "#####\n#S#E#\n#X#X#\n#XXX#\n#####", "right\nE#S\nx#x\nxxx"
    answer = json.dumps({"letter": "C", "options": ["4", "1", "2", "3"]})
    trace = MAZE.solve(Problem("p", left, answer, {"question": "turns", "wording": "full"}))
    assert trace.thought == (
        "S is at line 2, column 2.\nDown to line 4, column 2.\nRight to line 4, column 4: a left turn, so 1.\n"
        "Up to line 2, column 4: a left turn, so 2. This is E.\nThe path takes 2 turns. That is option C, 2."
    )
    assert trace.solution == "The right option is C, 2.\n\n\\boxed{C}"
    trace = MAZE.solve(Problem("p", right, answer, {"question": "right_turns", "wording": "short"}))
    assert trace.thought == "0,1 d1,1 0 l1,0 1 u0,0 2" and trace.solution == "\\boxed{2}"
    yes_no = json.dumps({"letter": "B", "options": ["Yes", "No"]})
    trace = MAZE.solve(Problem("p", "E ul S\nE#S\nx#x\nxxx", yes_no, {"question": "relation", "wording": "short"}))
    assert trace.thought == "S0,1 E0,0 l !ul" and trace.solution == "\\boxed{no}"


def test_no_maze_is_in_two_splits_whatever_is_asked_of_it():
    drawings = {
        split: {
            problem.prompt.split("\n", 1)[1]
            for seed, question in enumerate(("all", "turns", "right_turns", "relation"))
            for problem in problems(150, split=split, seed=seed, size=3, question=question, wording="short")
        }
        for split in ("train", "test", "dev")
    }
    assert not drawings["train"] & drawings["test"] and not drawings["train"] & drawings["dev"]
    assert all(len(found) > 100 for found in drawings.values())


def test_one_kind_of_question_can_be_asked_alone():
    for question in ("right_turns", "turns", "relation"):
        asked = problems(8, question=question)
        assert {problem.meta["question"] for problem in asked} == {question}
        letters = [json.loads(problem.answer)["letter"] for problem in asked]
        assert question != "relation" or letters == ["A", "B"] * 4


def test_the_same_seed_gives_the_same_set_and_sizes_have_no_limit():
    assert problems(20, seed=3) == problems(30, seed=3)[:20]
    assert problems(20, seed=3) != problems(20, seed=4)
    assert problems(1, size=60)[0].meta["size"] == 60


def test_paths_are_as_long_as_is_asked_for():
    short = problems(60, size=3, max_path=3)
    assert {problem.meta["path_length"] for problem in short} == {1, 2, 3}
    long = problems(60, size=3, min_path=4, max_path=8)
    assert {problem.meta["path_length"] for problem in long} >= {4, 5, 6}
    assert min(problem.meta["path_length"] for problem in long) == 4
    assert {problem.meta["path_length"] for problem in problems(9, size=3, min_path=6, max_path=6)} == {6}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"size": 1}, "size >= 2"),
        ({"min_path": 0}, "1 <= min_path <= max_path"),
        ({"min_path": 4, "max_path": 3}, "1 <= min_path <= max_path"),
        ({"size": 2, "min_path": 4}, "no path of 4 to 4 moves"),
        ({"question": "left_turns"}, "no question 'left_turns'"),
        ({"wording": "long"}, "no wording 'long'"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(UserError, match=message):
        problems(1, **parameters)


@pytest.mark.parametrize("prompt", ["", "chain 7 +3 =", "##\n##", "S.E", "S#\n#E", "SS\n.E\n...", "S#E\n###\n..."])
def test_a_prompt_without_a_maze_is_refused(prompt):
    with pytest.raises(UserError, match="maze"):
        MAZE.solve(Problem("p", prompt, '{"letter": "A", "options": ["1"]}', {"question": "turns", "wording": "full"}))
