"""GPQA Diamond: multiple-choice questions of physics, chemistry and biology for experts (arXiv 2311.12022).

The authors ask that the questions do not appear in plain text on the web. So neither results nor messages quote them: a
problem is known by its id, and a verdict by a letter.
"""

import hashlib
import random
from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import row_id, text_of
from phi4r.evals.options import choice_prompt, choice_reference
from phi4r.verifiers.choice import ChoiceVerifier

_WRONG = tuple(f"Incorrect Answer {number}" for number in (1, 2, 3))


def _read(row: Mapping[str, Any], where: str) -> Problem:
    """Reads a row of Idavidrein/gpqa; where its right option stands depends on the question alone."""
    question, answer = text_of(row, ("Question",), where), text_of(row, ("Correct Answer",), where)
    options = [answer, *(text_of(row, (key,), where) for key in _WRONG)]
    if answer in options[1:]:
        raise UserError(f"{where}: 'Correct Answer' is one of the incorrect ones too; leave the row out.")
    random.Random(hashlib.sha256(question.encode("utf-8", "surrogatepass")).hexdigest()).shuffle(options)
    meta = {
        "domain": text_of(row, ("High-level domain",), where),
        "subdomain": text_of(row, ("Subdomain",), where),
    }
    prompt = choice_prompt(question, options)
    return Problem(
        row_id(row, ("Record ID",), question), prompt, choice_reference(options, options.index(answer)), meta
    )


GPQA_DIAMOND = Benchmark(
    name="gpqa_diamond",
    title="GPQA Diamond",
    hub="Idavidrein/gpqa",
    files="gpqa_diamond.csv",
    licence="CC BY 4.0; its authors ask not to post the questions",
    read=_read,
    make_verifier=lambda thinking: ChoiceVerifier(thinking=thinking),
    groups=("domain", "subdomain"),
    num_items=198,
)
