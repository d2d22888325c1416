"""What a sweep starts from where no data and no model are at hand: generated traces, and a model of random weights."""

import json
import pathlib
from collections.abc import Callable, Mapping

from phi4r.data.records import Problem, Trace, write_json, write_jsonl
from phi4r.errors import UserError
from phi4r.evals.puzzles import chains
from phi4r.evals.puzzles.table import PUZZLES
from phi4r.evals.specs import load_task
from phi4r.settings import first_difference

SOLVERS: Mapping[str, Callable[[Problem], Trace]] = {
    "chains": chains.solve,
    **{name: puzzle.solve for name, puzzle in PUZZLES.items()},
}


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
        solve = _solver_of(spec)
        write_jsonl(workdir / "problems" / f"{name}.jsonl", map(solve, load_task(spec).problems))
    if random_base:
        _write_random_base(workdir, random_base, seed=seed)
    write_json(record, values)


def _solver_of(spec: str) -> Callable[[Problem], Trace]:
    kind = spec.partition("?")[0].partition(":")[0]
    if kind not in SOLVERS:
        raise UserError(f"traces: {spec!r} has no solver that writes thoughts; take {', '.join(sorted(SOLVERS))}.")
    return SOLVERS[kind]


def _write_random_base(workdir: pathlib.Path, shape: Mapping[str, int | float], *, seed: int) -> None:
    """Writes the model as the quickstart does: with its small tokenizer, converted for reasoning."""
    import jax

    from phi4r.checkpoint.convert import hf_to_orbax
    from phi4r.checkpoint.release import save_hf_folder
    from phi4r.model.config import ModelConfig
    from phi4r.model.transformer import init_params
    from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
    from phi4r.text.tokenizer import load_tokenizer

    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), workdir / "base_tokenizer")
    tokenizer = load_tokenizer(workdir / "base_tokenizer")
    config = ModelConfig(vocab_size=tokenizer.vocab_size, **shape)
    ids = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    params = init_params(config, jax.random.key(seed))
    save_hf_folder(workdir / "base_hf", params, config=config, source_folder=workdir / "base_tokenizer", hf_fields=ids)
    hf_to_orbax(workdir / "base_hf", workdir / "base", reasoning=True, system_message=None)
