"""IFEval: prompts with instructions that a program can check (arXiv 2311.07911)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.benchmarks.benchmark import Benchmark
from phi4r.evals.benchmarks.rows import first_of, text_of
from phi4r.evals.responses import Response
from phi4r.verifiers.instructions import FAMILIES, InstructionVerifier, read_instructions


def _read(row: Mapping[str, Any], where: str) -> Problem:
    """Reads a row of google/IFEval: key, prompt, instruction_id_list, kwargs."""
    prompt, key = text_of(row, ("prompt",), where), text_of(row, ("key",), where)
    names, arguments = first_of(row, ("instruction_id_list",), where), first_of(row, ("kwargs",), where)
    try:
        instructions = read_instructions(names, arguments)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    # The Hub's table gives every instruction the arguments of all types, with null for those that it has not.
    kwargs = [{name: value for name, value in values.items() if value is not None} for values in arguments]
    reference = {"instruction_id_list": names, "kwargs": kwargs, "prompt": prompt}
    meta = {"num_instructions": len(instructions), "instructions": names}
    return Problem(f"ifeval-{key}", prompt, json.dumps(reference), meta)


def _summarise(responses: Sequence[Response], groups: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Returns the four accuracies of the benchmark, and the strict accuracy of each family of instructions.

    A response that could not be judged (time-out, error) follows nothing; of which families its instructions are is
    not known then, so it is missing from the figures of families, and from these only.
    """
    if not responses:
        return {}
    total = {name: sum(response.parts.get(name, 0.0) for response in responses) for name in _sums()}
    num_instructions = sum(groups[response.id]["num_instructions"] for response in responses)
    figures = {
        "prompt strict": total["prompt_strict"] / len(responses),
        "prompt loose": total["prompt_loose"] / len(responses),
        "instruction strict": total["instructions_strict"] / num_instructions,
        "instruction loose": total["instructions_loose"] / num_instructions,
    }
    for family in FAMILIES:
        if total[f"number/{family}"]:
            figures[f"strict {family}"] = total[f"strict/{family}"] / total[f"number/{family}"]
    return figures


def _sums() -> list[str]:
    names = ["prompt_strict", "prompt_loose", "instructions_strict", "instructions_loose"]
    return names + [f"{kind}/{family}" for kind in ("number", "strict") for family in FAMILIES]


IFEVAL = Benchmark(
    name="ifeval",
    title="IFEval",
    hub="google/IFEval",
    files="*.jsonl",
    licence="Apache-2.0",
    read=_read,
    make_verifier=lambda thinking: InstructionVerifier(thinking=thinking),
    groups=("num_instructions",),
    num_items=541,
    summary=_summarise,
)
