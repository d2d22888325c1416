"""Benchmark: what makes a Task out of the rows of a published data set."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from phi4r.data.records import Problem
from phi4r.evals.responses import Response
from phi4r.verifiers.verdict import Verifier

# (row, "file:line") -> the problem; None for a row that this benchmark leaves out. UserError for a malformed row.
ReadRow = Callable[[Mapping[str, Any], str], Problem | None]

# (all responses, problem id -> its `meta`) -> figures of the benchmark's own, by name.
Summary = Callable[[Sequence[Response], Mapping[str, Mapping[str, Any]]], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A published set of questions.

    Attributes:
      name: in task specs and folders.
      title: in tables.
      hub: id of the data set on the Hugging Face Hub, where it can be had; empty if it is nowhere.
      files: pattern of the files of that data set which hold the rows, as "data/test-*.parquet".
      licence: of the data, in a word or two, for the message that says where to get it.
      read: makes a problem of a row.
      make_verifier: called with `thinking`, returns what judges a response.
      num_runs: how often the paper's protocol asks every problem.
      groups: keys of `Problem.meta` that results are broken down by.
      num_items: how many rows the published set has; another number is said, not refused. None where it varies.
      summary: figures of its own besides accuracy; None for most.
      judge: how a language model judges what rules cannot (`phi4r.evals.judges.JUDGES`); empty for no judge.
    """

    name: str
    title: str
    hub: str
    files: str
    licence: str
    read: ReadRow
    make_verifier: Callable[[bool], Verifier]
    num_runs: int = 5
    groups: tuple[str, ...] = ()
    num_items: int | None = None
    summary: Summary | None = None
    judge: str = ""
