"""What a sweep starts from where no data and no model are at hand: generated traces, and a model of random weights."""

import json
import pathlib
from collections.abc import Mapping

from phi4r.data.records import write_json, write_jsonl
from phi4r.errors import UserError
from phi4r.evals.specs import load_task, solver_of
from phi4r.settings import first_difference


def prepare_start(
    workdir: pathlib.Path, *, traces: Mapping[str, str], random_base: Mapping[str, int | float], seed: int
) -> None:
    """Writes WORKDIR/problems/NAME.jsonl and WORKDIR/base, unless an earlier process has.

    Args:
      workdir: of the sweep.
      traces: name -> spec of a task that has a solver.
      random_base: fields of `ModelConfig` but the vocabulary, which the tokenizer gives; empty for no model.
      seed: of the weights.

    Raises:
      UserError: for a bad spec or shape, or a workdir that was made from others.
    """
    values = {"traces": dict(traces), "random_base": dict(random_base), "seed": seed}
    record = workdir / "start.json"
    if record.exists():
        difference = first_difference(json.loads(record.read_text()), values)
        if difference is not None:
            name, before, now = difference
            raise UserError(f"{workdir} holds a sweep with {name}={before}, not {now}; use another --workdir.")
        return
    for name, spec in traces.items():
        solve = solver_of(spec)
        write_jsonl(workdir / "problems" / f"{name}.jsonl", map(solve, load_task(spec).problems))
    if random_base:
        _write_random_base(workdir, random_base, seed=seed)
    write_json(record, values)


def _write_random_base(workdir: pathlib.Path, shape: Mapping[str, int | float], *, seed: int) -> None:
    """Writes the model as the quickstart does: with its small tokenizer, converted for reasoning."""
    from phi4r.checkpoint.convert import hf_to_orbax
    from phi4r.checkpoint.random_base import write_random_base
    from phi4r.model.config import ModelConfig

    write_random_base(workdir / "base_hf", lambda vocab_size: ModelConfig(vocab_size=vocab_size, **shape), seed=seed)
    hf_to_orbax(workdir / "base_hf", workdir / "base", reasoning=True, system_message=None)
