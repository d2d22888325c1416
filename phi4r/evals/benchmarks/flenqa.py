"""FLenQA as published: 12,000 rows, of which the report asks those of 3000 tokens.

Fields of a row: `dataset` (PIR, MonoRel or Simplified RuleTaker), `assertion/question`, `mixin` (the text), `rule`
(RuleTaker only, with the brackets of a list; it is not in the text), `label` ("True" or "False"), `ctx_size`,
`padding_type` (same or books), `dispersion`, `global_sample_id` (of the problem: 40 rows each). The rows of
`ctx_size` 250 have no padding, so eight of them are one question.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import first_of, text_of
from phi4r.verifiers.boolean import BooleanVerifier

_KINDS = {"PIR": "rooms", "MonoRel": "relations", "Simplified RuleTaker": "rules"}
_LONGEST = 3000
_END = "Reason step by step. End with one line that holds a single word, either True or False."


def _read(row: Mapping[str, Any], where: str) -> Problem:
    kind, label = _KINDS.get(text_of(row, ("dataset",), where)), str(first_of(row, ("label",), where)).lower()
    length = text_of(row, ("ctx_size",), where)
    if kind is None or label not in ("true", "false") or not length.isdecimal():
        raise UserError(
            f"{where}: 'dataset' must be one of {', '.join(_KINDS)}, 'label' True or False, and 'ctx_size' a whole"
            f" number, not {row['dataset']!r}, {row['label']!r} and {length!r}."
        )
    text, question, padding, dispersion, problem = (
        text_of(row, (key,), where)
        for key in ("mixin", "assertion/question", "padding_type", "dispersion", "global_sample_id")
    )
    rule, asked = "", "Is this true, by the text?"
    if kind == "rules":
        rule = f"Rule: {_rule(first_of(row, ('rule',), where))}\n"
        asked = "Can this statement be derived from the rule and the text?"
    return Problem(
        id=f"flenqa-{problem}-{length}-{padding}-{dispersion}",
        prompt=f"Text:\n{text}\n\n{rule}{asked}\n{question}\n\n{_END}",
        answer=label,
        meta={"length": int(length), "padding": padding, "dispersion": dispersion, "kind": kind},
    )


def _read_longest(row: Mapping[str, Any], where: str) -> Problem | None:
    problem = _read(row, where)
    return problem if problem.meta["length"] == _LONGEST else None


def _rule(value: Any) -> str:
    """Returns a rule that comes as a list, or as the text of one, as plain text."""
    if not isinstance(value, str):
        value = " ".join(map(str, value))
    return value.strip().strip("[]\"'").strip()


FLENQA_HUB = Benchmark(
    name="flenqa_hub",
    title="FLenQA (published)",
    hub="alonj/FLenQA",
    files="data/eval-*.parquet",
    licence="MIT",
    read=_read,
    make_verifier=BooleanVerifier,
    groups=("length", "padding", "dispersion", "kind"),
    num_items=12_000,
)

FLENQA_HUB_3K = dataclasses.replace(
    FLENQA_HUB,
    name="flenqa_hub_3k",
    title="FLenQA 3K (published)",
    read=_read_longest,
    groups=("padding", "dispersion", "kind"),
    num_items=2400,
)
