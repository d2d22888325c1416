"""An evaluation from a config: one model asked one task or a whole suite, judged, and summed up.

    WORKDIR/TASK/responses.jsonl    every response with its verdict (`phi4r.evals.responses`)
    WORKDIR/TASK/protocol.json      how they were made (`phi4r.evals.runner`)
    WORKDIR/TASK/items.jsonl        the groups that results are broken down by
    WORKDIR/TASK/results.json       the statistics, with the protocol beside them

A run started again in the same workdir asks only for what is missing; with a larger `num_runs` it adds runs.
Where a judge or an extraction is configured, a language model looks at the stored responses afterwards
(`phi4r.evals.judging`); its figures stand apart in results.json. `phi4r report WORKDIR` makes tables and figures of it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, Literal

from phi4r.checkpoint.release import load_model
from phi4r.data.records import write_json
from phi4r.errors import UserError
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.judging import JudgeSettings, extract_answers, judge_responses
from phi4r.evals.loading import make_generator
from phi4r.evals.provenance import model_provenance
from phi4r.evals.responses import Response
from phi4r.evals.results import results_of, results_text
from phi4r.evals.runner import RESULTS_FILE, evaluate
from phi4r.evals.specs import load_tasks
from phi4r.evals.tasks import Task, check_prompts
from phi4r.model.rope_scaling import RopeSettings
from phi4r.sampling import SamplerSettings
from phi4r.sampling.endpoint import EndpointGenerator, EndpointSettings
from phi4r.sampling.generator import Generator
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.text.chat import Chat, load_chat
from phi4r.verifiers.pool import DEADLINE_S


@dataclasses.dataclass(frozen=True)
class EvalSettings:
    """A config of an evaluation; `configs/eval_reasoning.py` is the paper's.

    Attributes:
      task: spec of what is asked (`phi4r.evals.specs`), or several, with blanks between them.
      generator: "sampler" is a model folder on our own sampler, "endpoint" a server.
      model: folder of the model, Hugging Face or Orbax, with its tokenizer; for the sampler.
      sampler: fixed shapes of the sampler.
      endpoint: the server.
      decoding: how answers are decoded.
      num_runs: how often every problem is asked; None for what the protocol of each task says.
      thinking: whether the model thinks between tags that its answers show. False for models without thoughts, and for
        servers that hide them; a spec may say otherwise with `thinking=`.
      system_message: takes the place of the model's own; None keeps that.
      batch_size: responses asked for in one call.
      seed: of all sampling.
      dtype: of parameters and activations; None for the stored one.
      rope: how rows longer than the positions of the model are rotated.
      mesh: how devices share the work.
      deadline_s: seconds that the judgement of one answer may take.
      judge: a model that judges what rules cannot, for tasks that have such a part; None for no judge.
      extraction: a model that reads final answers where rules find none; None for none.
    """

    task: str
    generator: Literal["sampler", "endpoint"] = "sampler"
    model: str = ""
    sampler: SamplerSettings | None = None
    endpoint: EndpointSettings | None = None
    decoding: DecodingSettings = dataclasses.field(default_factory=DecodingSettings)
    num_runs: int | None = None
    thinking: bool = True
    system_message: str | None = None
    batch_size: int = 256
    seed: int = 0
    dtype: Literal["float32", "bfloat16"] | None = None
    rope: RopeSettings = dataclasses.field(default_factory=RopeSettings)
    mesh: MeshSettings = dataclasses.field(default_factory=MeshSettings)
    deadline_s: float = DEADLINE_S
    judge: JudgeSettings | None = None
    extraction: JudgeSettings | None = None

    def __post_init__(self):
        for name in ("num_runs", "batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"{name}={getattr(self, name)} must be at least 1.")
        if not self.task.split():
            raise UserError("task is empty; name at least one, as 'aime_2025' or 'maze tsp'.")
        if self.generator == "endpoint":
            if self.endpoint is None:
                raise UserError("generator='endpoint' needs the section endpoint, with base_url and model.")
        elif self.sampler is None:
            raise UserError("generator='sampler' needs the section sampler, with prompt_length and max_response.")
        elif self.decoding.max_tokens > self.sampler.max_response:
            raise UserError(
                f"decoding.max_tokens={self.decoding.max_tokens} tokens do not fit into sampler.max_response="
                f"{self.sampler.max_response}; make them equal."
            )


def run_evaluate(settings: EvalSettings, workdir: str | os.PathLike) -> dict[str, Any]:
    """Evaluates, prints a table for each task, and returns what WORKDIR/TASK/results.json hold, by task.

    Raises:
      UserError: for a bad model, task or setting, a server that refuses, or a workdir that cannot be written or holds
        another evaluation.
    """
    workdir = pathlib.Path(workdir)
    # All of them, before anything dear is done.
    tasks = load_tasks(settings.task, thinking=settings.thinking, system_message=settings.system_message)
    generator, provenance = _open_model(settings, tasks)
    results = {}
    for task in tasks:
        result = evaluate(
            generator,
            task,
            workdir=workdir / task.name,
            decoding=settings.decoding,
            num_runs=settings.num_runs,
            seed=settings.seed,
            batch_size=settings.batch_size,
            deadline_s=settings.deadline_s,
            provenance=provenance,
        )
        print(results_text(result, task))
        results[task.name] = {"model": _label(settings), **results_of(result, task)}
        results[task.name] |= _ask_judges(settings, task, result.responses, workdir / task.name)
        write_json(workdir / task.name / RESULTS_FILE, results[task.name])
    return results


def _ask_judges(
    settings: EvalSettings, task: Task, responses: Sequence[Response], workdir: pathlib.Path
) -> dict[str, dict[str, float]]:
    """Returns the figures of the judge and of the extraction, where they are configured."""
    figures = {}
    if settings.judge is not None and task.judge:
        judge = settings.judge
        figures["judge"] = judge_responses(
            judge.generator(), task, responses, workdir=workdir, protocol=judge.protocol()
        )
    if settings.extraction is not None:
        reader = settings.extraction
        figures["extraction"] = extract_answers(
            reader.generator(),
            task,
            responses,
            workdir=workdir,
            protocol=reader.protocol(),
            deadline_s=settings.deadline_s,
        )
    for name, values in figures.items():
        print(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    return figures


def _label(settings: EvalSettings) -> str:
    """Returns what to call the model in tables."""
    return settings.endpoint.model if settings.generator == "endpoint" else settings.model


def _open_model(settings: EvalSettings, tasks: list[Task]) -> tuple[Generator, dict[str, Any]]:
    """Returns the generator and what identifies the model."""
    if settings.generator == "endpoint":
        generator = EndpointGenerator(settings.endpoint, settings.decoding.params(), settings.decoding.stop)
        endpoint = settings.endpoint
        answers = {"base_url": endpoint.base_url, "model": endpoint.model, "extra": endpoint.extra}
        return generator, {**answers, "omit": endpoint.omit}
    return _load_model(settings, _open_chat(settings, tasks))


def _open_chat(settings: EvalSettings, tasks: list[Task]) -> Chat:
    """Opens the chat format; refuses prompts and decoding that do not fit it, before the model is loaded."""
    chat = load_chat(settings.model)
    if settings.system_message is not None:
        chat = dataclasses.replace(chat, system_message=settings.system_message)
    for task in tasks:
        check_prompts(task, chat, prompt_length=settings.sampler.prompt_length)
    settings.decoding.end_think_id(chat.tokenizer)
    return chat


def _load_model(settings: EvalSettings, chat: Chat) -> tuple[Generator, dict[str, Any]]:
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
