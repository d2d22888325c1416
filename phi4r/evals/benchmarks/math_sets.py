"""Sets of mathematical problems outside of the report's tables: MATH-500, GSM8K, OlymMATH."""

from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.math_prompt import math_prompt
from phi4r.evals.benchmarks.rows import row_id, text_of
from phi4r.verifiers.math import MathVerifier

_MARK = "####"  # stands before the final answer in solutions of GSM8K


def _read_math(row: Mapping[str, Any], where: str) -> Problem:
    problem = text_of(row, ("problem",), where)
    answer = text_of(row, ("answer",), where)
    meta = {key: row[key] for key in ("subject", "level") if row.get(key) is not None}
    return Problem(row_id(row, ("unique_id",), problem), math_prompt(problem), answer, meta)


def _read_gsm8k(row: Mapping[str, Any], where: str) -> Problem:
    question = text_of(row, ("question",), where)
    _, mark, answer = text_of(row, ("answer",), where).rpartition(_MARK)
    answer = answer.strip().replace(",", "")
    if not mark or not answer:
        raise UserError(f"{where}: no final answer after {_MARK} in 'answer'; is this GSM8K?")
    prompt = math_prompt(question, form="a number without its unit")
    return Problem(row_id(row, (), question), prompt, answer)


def _read_olymmath(row: Mapping[str, Any], where: str) -> Problem:
    problem = _read_math(row, where)
    hard = "HARD" in problem.id.split("-")  # OlymMATH-HARD-0-EN
    return Problem(problem.id, problem.prompt, problem.answer, {**problem.meta, "level": "hard" if hard else "easy"})


def _make_verifier(thinking: bool) -> MathVerifier:
    return MathVerifier(thinking=thinking)


MATH_500 = Benchmark(
    name="math_500",
    title="MATH-500",
    hub="HuggingFaceH4/MATH-500",
    files="test.jsonl",
    licence="MIT (MATH and its split by PRM800K)",
    read=_read_math,
    make_verifier=_make_verifier,
    groups=("subject", "level"),
    num_items=500,
)

GSM8K = Benchmark(
    name="gsm8k",
    title="GSM8K",
    hub="openai/gsm8k",
    files="main/test-*.parquet",
    licence="MIT",
    read=_read_gsm8k,
    make_verifier=_make_verifier,
    num_items=1319,
)

OLYMMATH = Benchmark(
    name="olymmath",
    title="OlymMATH",
    hub="RUC-AIBOX/OlymMATH",
    files="data/OlymMATH-EN-*.jsonl",
    licence="MIT",
    read=_read_olymmath,
    make_verifier=_make_verifier,
    groups=("subject", "level"),
    num_items=200,
)
