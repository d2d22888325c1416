"""An evaluation from a config: the model put on the mesh, asked, judged, and summed up.

    WORKDIR/responses.jsonl    every response with its verdict (`phi4r.evals.responses`)
    WORKDIR/protocol.json      how they were made (`phi4r.evals.runner`)
    WORKDIR/results.json       the statistics, with the protocol beside them

A run started again in the same workdir asks only for what is missing; with a larger `num_runs` it adds runs.
"""

import collections
import dataclasses
import os
import pathlib
from typing import Any, Literal

from phi4r.checkpoint.release import load_model
from phi4r.data.records import write_json
from phi4r.errors import UserError
from phi4r.evals.loading import make_generator
from phi4r.evals.provenance import model_provenance
from phi4r.evals.runner import DecodingSettings, EvalResult, evaluate
from phi4r.evals.scores import Scores
from phi4r.evals.tasks import Task, check_prompts, load_task
from phi4r.model.rope_scaling import RopeSettings
from phi4r.sampling import SamplerSettings
from phi4r.sampling.generator import SamplerGenerator
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.text.chat import Chat, load_chat
from phi4r.verifiers.pool import DEADLINE_S

RESULTS_FILE = "results.json"


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    """A config of an evaluation; `configs/eval_reasoning.py` is the paper's.

    Attributes:
      model: folder of the model, Hugging Face or Orbax, with its tokenizer.
      task: spec of what is asked (`phi4r.evals.tasks`).
      sampler: fixed shapes of the sampler.
      decoding: how answers are decoded.
      num_runs: how often every problem is asked.
      system_message: takes the place of the model's own; None keeps that.
      batch_size: responses between two writes to disk: what an interruption may cost.
      seed: of all sampling.
      dtype: of parameters and activations; None for the stored one.
      rope: how rows longer than the positions of the model are rotated.
      mesh: how devices share the work.
      deadline_s: seconds that the judgement of one answer may take.
    """

    model: str
    task: str
    sampler: SamplerSettings
    decoding: DecodingSettings = dataclasses.field(default_factory=DecodingSettings)
    num_runs: int = 1
    system_message: str | None = None
    batch_size: int = 256
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] | None = None
    rope: RopeSettings = dataclasses.field(default_factory=RopeSettings)
    mesh: MeshSettings = dataclasses.field(default_factory=MeshSettings)
    deadline_s: float = DEADLINE_S

    def __post_init__(self):
        for name in ("num_runs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.decoding.max_tokens > self.sampler.max_response:
            raise UserError(
                f"decoding.max_tokens={self.decoding.max_tokens} tokens do not fit into sampler.max_response="
                f"{self.sampler.max_response}; make them equal."
            )


def run_evaluate(settings: EvalSettings, workdir: str | os.PathLike) -> dict[str, Any]:
    """Evaluates, prints a table, and returns what WORKDIR/results.json holds.

    Raises:
      UserError: for a bad model, task or setting, or a workdir that cannot be written or holds another evaluation.
    """
    workdir = pathlib.Path(workdir)
    task = load_task(settings.task, system_message=settings.system_message)
    chat = _open_chat(settings, task)
    generator, provenance = _load_generator(settings, chat)
    result = evaluate(
        generator,
        task,
        workdir=workdir,
        decoding=settings.decoding,
        num_runs=settings.num_runs,
        seed=settings.seed,
        batch_size=settings.batch_size,
        deadline_s=settings.deadline_s,
        provenance=provenance,
    )
    print(results_text(result))
    results = _results(settings, result)
    write_json(workdir / RESULTS_FILE, results)
    return results


def results_text(result: EvalResult) -> str:
    """Returns the statistics as lines for a terminal; accuracies in percent, lengths in tokens."""
    scores = result.scores
    rows = [("accuracy", _accuracy_text(scores))]
    if scores.num_runs > 1:
        k = scores.num_runs
        rows += [
            ("best, worst run", f"{_percent(scores.best_run)}, {_percent(scores.worst_run)}"),
            (f"pass@{k}, majority@{k}", f"{_percent(scores.pass_at_k)}, {_percent(scores.majority_at_k)}"),
        ]
    rows += [
        ("truncated", f"{_percent(scores.truncated)} of the responses"),
        (
            "tokens",
            f"{scores.mean_tokens:.0f} a response; right {_tokens(scores.mean_tokens_right)}, "
            f"wrong {_tokens(scores.mean_tokens_wrong)}",
        ),
    ]
    if unjudged := _num_unjudged(result):
        rows.append(("not judged", f"{unjudged} responses, counted as wrong: see their status in the file"))
    runs = f"{scores.num_runs} run" + ("s" if scores.num_runs > 1 else "")
    lines = [f"{result.task}: {scores.num_items} problems, {runs}"]
    return "\n".join([*lines, *(f"  {name:<24}{value}" for name, value in rows)])


def _open_chat(settings: EvalSettings, task: Task) -> Chat:
    """Opens the chat format; refuses prompts and decoding that do not fit it, before the model is loaded."""
    chat = load_chat(settings.model)
    if task.system_message is not None:
        chat = dataclasses.replace(chat, system_message=task.system_message)
    check_prompts(task, chat, prompt_length=settings.sampler.prompt_length)
    settings.decoding.end_think_id(chat.tokenizer)
    return chat


def _load_generator(settings: EvalSettings, chat: Chat) -> tuple[SamplerGenerator, dict[str, Any]]:
    """Loads the model onto the mesh; returns its generator and what identifies it."""
    mesh = make_mesh(settings.mesh)
    loaded = load_model(settings.model, mesh=mesh, dtype=settings.dtype)
    provenance = {**model_provenance(loaded.folder, loaded.params), "dtype": loaded.config.param_dtype}
    if settings.rope.scaling != "stored":
        provenance["rope"] = dataclasses.asdict(settings.rope)
    if "int8" in (settings.sampler.weights, settings.sampler.cache):
        provenance["sampler"] = {"weights": settings.sampler.weights, "cache": settings.sampler.cache}
    generator = make_generator(
        loaded, chat, sampler=settings.sampler, decoding=settings.decoding, rope=settings.rope, mesh=mesh
    )
    return generator, provenance


def _results(settings: EvalSettings, result: EvalResult) -> dict[str, Any]:
    """Returns the statistics with their protocol, as JSON values."""
    return {
        "model": settings.model,
        "task": settings.task,
        **dataclasses.asdict(result.scores),
        "unjudged": _num_unjudged(result),
        "protocol": result.protocol,
    }


def _num_unjudged(result: EvalResult) -> int:
    """Counts the responses whose judge was stopped or broke down."""
    statuses = collections.Counter(response.status for response in result.responses)
    return statuses["timeout"] + statuses["error"]


def _accuracy_text(scores: Scores) -> str:
    low, high = _percent(scores.interval.low), _percent(scores.interval.high)
    spread = "" if scores.sd is None else f", sd over runs {100 * scores.sd:.1f}"
    return f"{_percent(scores.accuracy)} (95% interval {low} to {high}{spread})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _tokens(mean: float | None) -> str:
    return "-" if mean is None else f"{mean:.0f}"
