"""MMLU-Pro: multiple-choice questions of 14 subjects with up to ten options (arXiv 2406.01574)."""

from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import first_of, row_id, text_of
from phi4r.evals.options import choice_prompt, choice_reference, letter_of
from phi4r.verifiers.choice import ChoiceVerifier

_MAX_OPTIONS = 10
_PADDING = "N/A"  # some copies fill up to ten options with it


def _read(row: Mapping[str, Any], where: str) -> Problem:
    """Reads a row of TIGER-Lab/MMLU-Pro."""
    question, letter = text_of(row, ("question",), where), text_of(row, ("answer",), where)
    options = first_of(row, ("options",), where)
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise UserError(f"{where}: 'options' must be a list of texts, not {type(options).__name__}.")
    if not 2 <= len(options) <= _MAX_OPTIONS:
        raise UserError(f"{where} has {len(options)} options; the questions of MMLU-Pro have 2 to {_MAX_OPTIONS}.")
    letters = [letter_of(index) for index in range(len(options))]
    right = letters.index(letter) if letter in letters else -1
    if right != row.get("answer_index", right) or right < 0:
        raise UserError(
            f"{where}: 'answer' {letter[:20]!r} and 'answer_index' {row.get('answer_index')!r} name no one option of "
            f"{len(options)}; mend the row or leave it out."
        )
    options = [option.strip() for option in options]
    while len(options) > right + 1 and options[-1] == _PADDING:
        options.pop()
    meta = {"category": text_of(row, ("category",), where)}
    prompt = choice_prompt(question, options)
    return Problem(row_id(row, ("question_id",), question), prompt, choice_reference(options, right), meta)


MMLU_PRO = Benchmark(
    name="mmlu_pro",
    title="MMLU-Pro",
    hub="TIGER-Lab/MMLU-Pro",
    files="data/test-*.parquet",
    licence="MIT",
    read=_read,
    make_verifier=lambda thinking: ChoiceVerifier(thinking=thinking),
    num_runs=1,
    groups=("category",),
    num_items=12032,
)
