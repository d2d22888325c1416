"""Maze and SpatialMap as published: the text-only subsets of microsoft/VISION_LANGUAGE (arXiv 2406.14852).

Their labels are taken as they are; those of SpatialMap do not always follow from the text. Generated questions with
exact labels are `phi4r.evals.puzzles.maze` and `phi4r.evals.puzzles.spatial_map`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import row_id, text_of
from phi4r.evals.options import ANSWER_FORMAT, choice_reference, letter_of
from phi4r.verifiers.choice import ChoiceVerifier

_BEFORE_OPTIONS = "Available options:"
_OPTION = re.compile(r"\s*([A-Z])\.\s*(.+?)\.?\s*")
_DRAWING = re.compile(r"\s*#[#XSE ]+\s*")


def _read_map(row: Mapping[str, Any], where: str) -> Problem:
    """Reads prompt (with its options), ground_truth (the text of one of them) and question_type."""
    prompt, truth = text_of(row, ("prompt",), where), text_of(row, ("ground_truth",), where)
    options = _options(prompt)
    same = [index for index, option in enumerate(options) if option.casefold() == truth.rstrip(".").casefold()]
    if len(same) != 1:
        raise UserError(
            f"{where}: 'ground_truth' {truth[:40]!r} is not one of the {len(options)} options after "
            f"{_BEFORE_OPTIONS!r} in 'prompt'; is this a text-only subset of VISION_LANGUAGE?"
        )
    meta = {"question_type": text_of(row, ("question_type",), where)}
    reference = choice_reference(options, same[0])
    return Problem(row_id(row, (), prompt), f"{prompt}\n\n{ANSWER_FORMAT}", reference, meta)


def _read_maze(row: Mapping[str, Any], where: str) -> Problem:
    """Reads the same; the subset has mazes of several sizes, told apart by the lines of their drawings."""
    problem = _read_map(row, where)
    lines = sum(_DRAWING.fullmatch(line) is not None for line in problem.prompt.split("\n"))
    return Problem(problem.id, problem.prompt, problem.answer, {**problem.meta, "lines": lines})


def _options(prompt: str) -> Sequence[str]:
    """Returns the texts of the lines "A. ...", "B. ..." that follow the announcement of the options."""
    options: list[str] = []
    for line in prompt.partition(_BEFORE_OPTIONS)[2].split("\n"):
        option = _OPTION.fullmatch(line)
        if option and option[1] == letter_of(len(options)):
            options.append(option[2])
        elif line.strip():
            break
    return options


MAZE_HUB = Benchmark(
    name="maze_hub",
    title="Maze (published)",
    hub="microsoft/VISION_LANGUAGE",
    files="maze/*text_only*.parquet",
    licence="CDLA-Permissive-2.0",
    read=_read_maze,
    make_verifier=lambda thinking: ChoiceVerifier(thinking=thinking),
    groups=("question_type", "lines"),
    num_items=1500,
)

SPATIAL_MAP_HUB = Benchmark(
    name="spatial_map_hub",
    title="SpatialMap (published)",
    hub="microsoft/VISION_LANGUAGE",
    files="spatial_map/*text_only*.parquet",
    licence="CDLA-Permissive-2.0",
    read=_read_map,
    make_verifier=lambda thinking: ChoiceVerifier(thinking=thinking),
    groups=("question_type",),
    num_items=1500,
)
