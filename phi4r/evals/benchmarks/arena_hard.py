"""ArenaHard v0.1 (arXiv 2406.11939): open requests, each answer compared with that of a baseline by a judge.

A row has the request and the baseline's answer, which the published set keeps in another file (of GPT-4-0314): join the
two by the question's id.

    {"uid": "...", "prompt": "...", "category": "...", "baseline": "the answer to compare with"}
"""

from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import row_id, text_of
from phi4r.verifiers.unjudged import UnjudgedVerifier


def _read(row: Mapping[str, Any], where: str) -> Problem:
    turns = row.get("turns")
    if turns is None:
        prompt = text_of(row, ("prompt",), where)
    elif isinstance(turns, list) and len(turns) == 1 and isinstance(turns[0], Mapping):
        prompt = text_of(turns[0], ("content",), where)
    else:
        raise UserError(f"{where}: 'turns' must be a list with the one request of the set.")
    baseline = text_of(row, ("baseline", "reference"), where)
    category = row.get("cluster") or row.get("category") or ""
    return Problem(row_id(row, ("uid", "question_id"), prompt), prompt, baseline, {"category": category})


ARENA_HARD = Benchmark(
    name="arena_hard",
    title="ArenaHard",
    hub="",
    files="",
    licence="Apache-2.0; requests and baseline answers at github.com/lmarena/arena-hard-auto",
    read=_read,
    make_verifier=lambda thinking: UnjudgedVerifier(thinking=thinking),
    num_runs=1,
    groups=("category",),
    num_items=500,
    judge="pairwise",
)
