import json

import pytest

from phi4r.errors import UserError
from phi4r.evals.benchmarks.vision_language import MAZE_HUB, SPATIAL_MAP_HUB

MAZE = """A maze:
#####
#S#E#
#X#X#
#XXX#
#####
How many turns?
Available options:
A. 4
B. 1
C. 2
D. 3

Be brief."""
TOWN = "A map.\n\nAvailable options:\nA. Ann's Inn.\nB. Northwest\nC. Southeast.\nD. Northeast"


def row(prompt: str, truth: str) -> dict:
    values = {"id": 0, "prompt": prompt, "ground_truth": truth, "task": "t", "question_type": "Q2"}
    return {**values, "target_options": "ABCD"}


@pytest.mark.parametrize(
    ("benchmark", "prompt", "truth", "letter", "options", "meta"),
    [
        (MAZE_HUB, MAZE, "2", "C", ["4", "1", "2", "3"], {"question_type": "Q2", "lines": 5}),
        (
            MAZE_HUB,
            "Q?\nAvailable options:\nA. Yes\nB. No",
            "No",
            "B",
            ["Yes", "No"],
            {"question_type": "Q2", "lines": 0},
        ),
        (SPATIAL_MAP_HUB, TOWN, "northwest", "B", None, {"question_type": "Q2"}),
        (SPATIAL_MAP_HUB, TOWN, "Ann's Inn", "A", None, {"question_type": "Q2"}),
    ],
)
def test_the_options_are_those_in_the_prompt_and_the_truth_is_one_of_them(
    benchmark, prompt, truth, letter, options, meta
):
    problem = benchmark.read(row(prompt, truth), "f:1")
    options = options or ["Ann's Inn", "Northwest", "Southeast", "Northeast"]
    assert json.loads(problem.answer) == {"letter": letter, "options": options}
    assert problem.prompt.startswith(prompt) and problem.prompt.endswith("\\boxed{A}.")
    assert problem.meta == meta
    assert benchmark.make_verifier(True)(f"</think>{letter}", problem.answer).correct


@pytest.mark.parametrize(
    ("prompt", "truth"), [(MAZE, "7"), ("No options.", "2"), ("Available options:\nA. 2\nB. 2", "2"), (MAZE, "C")]
)
def test_a_truth_that_is_not_exactly_one_option_is_named(prompt, truth):
    with pytest.raises(UserError, match="f:1: 'ground_truth'"):
        MAZE_HUB.read(row(prompt, truth), "f:1")
