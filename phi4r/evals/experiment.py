"""The experiment "evaluate": a model folder on a task, under a protocol that is stored with the result.

WORKDIR/responses.jsonl     every response with its verdict; a killed run goes on from here
WORKDIR/protocol.json       how the responses were made
WORKDIR/results.json        the statistics
"""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from phi4r.checkpoint.release import load_model
from phi4r.data.records import atomic_path
from phi4r.errors import UserError
from phi4r.evals.runner import DecodingSettings, evaluate
from phi4r.evals.tasks import Task, load_task
from phi4r.sampling import Sampler, SamplerSettings, SamplingParams
from phi4r.sampling.generator import SamplerGenerator
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.text.chat import Chat, load_chat
from phi4r.typing import Params

RESULTS_FILE = "results.json"


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    """A config of an evaluation; `configs/eval_reasoning.py` is the paper's protocol.

    Attributes:
      model: folder of the model, Hugging Face or Orbax, with its tokenizer.
      task: spec of the task (`phi4r.evals.tasks`).
      sampler: fixed shapes: the room for prompts and responses.
      decoding: temperature and so on; `max_tokens` is at most the sampler's `max_response`.
      num_runs: how often every problem is asked. More than last time extend an evaluation.
      seed: of all sampling.
      batch_size: responses sampled and stored at a time.
      dtype: of parameters and activations; None as stored.
      mesh: how devices share the work.
      thinking: whether a response without `</think>` counts as cut off, and so as wrong.
      system_message: put before every prompt; reasoning models have their own and drop it.
      verifier_deadline_s: seconds that the judgement of one answer may take.
    """

    model: str
    task: str
    sampler: SamplerSettings
    decoding: DecodingSettings = DecodingSettings()
    num_runs: int = 1
    seed: int = 0
    batch_size: int = 256
    dtype: Literal["float32", "bfloat16"] | None = None
    mesh: MeshSettings = MeshSettings()
    thinking: bool = True
    system_message: str | None = None
    verifier_deadline_s: float = 5.0

    def __post_init__(self):
        if self.decoding.max_tokens > self.sampler.max_response:
            raise UserError(
                f"decoding.max_tokens={self.decoding.max_tokens} is more than sampler.max_response="
                f"{self.sampler.max_response}; raise the latter, which is the room that the sampler has."
            )


def run_evaluate(settings: EvalSettings, workdir: str | os.PathLike) -> dict[str, Any]:
    """Evaluates a model, prints its scores and writes results.json; resumes what is unfinished.

    Returns:
      What results.json holds: `model`, `task`, `decoding`, `seed` and the fields of `phi4r.evals.scores.Scores`.

    Raises:
      UserError: for a bad model folder or task, prompts that do not fit, or a workdir with another evaluation.
    """
    workdir = pathlib.Path(workdir)
    task = load_task(
        settings.task,
        system_message=settings.system_message,
        num_runs=settings.num_runs,
        thinking=settings.thinking,
    )
    chat = load_chat(settings.model)
    _check_prompts(task, chat, settings.sampler.prompt_length)
    generator, params_digest = _load_generator(settings, chat)
    result = evaluate(
        generator,
        task,
        workdir=workdir,
        decoding=settings.decoding,
        seed=settings.seed,
        batch_size=settings.batch_size,
        deadline_s=settings.verifier_deadline_s,
        provenance={"params": params_digest, "template": template_digest(chat), "dtype": settings.dtype},
    )
    results = {
        "model": settings.model,
        "task": task.name,
        "decoding": dataclasses.asdict(settings.decoding),
        "seed": settings.seed,
        **dataclasses.asdict(result.scores),
    }
    with atomic_path(workdir / RESULTS_FILE) as partial:
        partial.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(format_results(results))
    return results


def format_results(results: Mapping[str, Any]) -> str:
    """Returns the results of `run_evaluate` as a few lines to read."""
    decoding = results["decoding"]
    how = f"temperature {decoding['temperature']:g}" if decoding["temperature"] else "greedy"
    low, high = results["interval"].values()
    rows = [("accuracy", f"{100 * results['accuracy']:.1f}%   95% interval {100 * low:.1f} to {100 * high:.1f}")]
    if results["num_runs"] > 1:
        rows += [
            (
                f"{results['num_runs']} runs",
                f"sd {100 * results['sd']:.1f}, worst {100 * results['worst_run']:.1f}, "
                f"best {100 * results['best_run']:.1f}",
            ),
            (f"pass@{results['num_runs']}", f"{100 * results['pass_at_k']:.1f}%"),
            (f"majority@{results['num_runs']}", f"{100 * results['majority_at_k']:.1f}%"),
        ]
    rows += [
        ("truncated", f"{100 * results['truncated']:.1f}%"),
        (
            "mean tokens",
            f"{_tokens(results['mean_tokens'])} (right {_tokens(results['mean_tokens_right'])}, "
            f"wrong {_tokens(results['mean_tokens_wrong'])})",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    title = f"{results['task']}: {results['model']}, {results['num_items']} items, {how}"
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in rows)])


def template_digest(chat: Chat) -> str:
    """Returns a hash of how `chat` turns a prompt into text and ids: of template, system message and tokenizer."""
    question = [{"role": "user", "content": "What is 1 + 1?"}]
    rendered = json.dumps([chat.prompt_text(question), chat.prompt_ids(question)])
    return hashlib.sha256(rendered.encode()).hexdigest()[:16]


@jax.jit
def _checksums(params: Params) -> Params:
    """Returns a weighted sum of the bits of every leaf, modulo 2^32; integers, so that no mesh changes it."""

    def checksum(leaf: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")).astype(jnp.uint32)
        weights = 2 * jax.lax.broadcasted_iota(jnp.uint32, bits.shape, bits.ndim - 1) + 1
        return jnp.sum(bits * weights, dtype=jnp.uint32)

    return jax.tree.map(checksum, params)


def _load_generator(settings: EvalSettings, chat: Chat) -> tuple[SamplerGenerator, str]:
    """Loads the model; returns its generator and a hash of its parameters."""
    mesh = make_mesh(settings.mesh)
    model = load_model(settings.model, mesh=mesh, dtype=settings.dtype)
    tokenizer = chat.tokenizer
    sampler = Sampler(model.config, settings.sampler, eos_ids=[tokenizer.eos_id], pad_id=tokenizer.pad_id, mesh=mesh)
    decoding = SamplingParams(**dataclasses.asdict(settings.decoding))
    checksums = [f"{int(value):08x}" for value in jax.tree.leaves(_checksums(model.params))]
    digest = hashlib.sha256("".join(checksums).encode()).hexdigest()[:16]
    return SamplerGenerator(sampler, sampler.unroll(model.params), chat, decoding), digest


def _check_prompts(task: Task, chat: Chat, prompt_length: int) -> None:
    """Refuses prompts that the sampler has no room for, before the model is loaded."""
    lengths = [len(chat.prompt_ids(task.conversation(problem))) for problem in task.problems]
    if max(lengths) > prompt_length:
        num_long = sum(length > prompt_length for length in lengths)
        raise UserError(
            f"{num_long} prompts of task {task.name} have more than sampler.prompt_length={prompt_length} tokens, "
            f"the longest {max(lengths)}; raise it to that."
        )


def _tokens(mean: float | None) -> str:
    return "none" if mean is None else f"{mean:.0f}"
