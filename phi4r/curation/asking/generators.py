"""Generators from a config, by name: a server, a model folder on our own sampler, or recorded completions."""

import dataclasses
import hashlib
import os
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from phi4r.curation.asking.ask_cache import open_answers
from phi4r.curation.asking.asking import FAILED, MAX_FAILURES, Asker
from phi4r.data.records import parse_row
from phi4r.errors import UserError
from phi4r.evals.decoding import DecodingSettings
from phi4r.sampling import SamplerSettings
from phi4r.sampling.endpoint import EndpointGenerator, EndpointSettings
from phi4r.sampling.generator import Completion, Generator, OnCompletion
from phi4r.sharding import MeshSettings
from phi4r.text.template import Message


@dataclasses.dataclass(frozen=True)
class GeneratorSettings:
    """A model that stages can ask.

    Attributes:
      kind: "endpoint" is a server, "sampler" a model folder on our own sampler, "recorded" a file of completions.
      endpoint: the server; an effort of thinking goes into its `extra`, as {"reasoning_effort": "high"}.
      decoding: how answers are decoded, by a server or by the sampler.
      model: folder of the model, Hugging Face or Orbax, with its tokenizer; for the sampler.
      sampler: fixed shapes of the sampler.
      dtype: of parameters and activations; None for the stored one.
      mesh: how devices share the work of the sampler.
      path: of the recorded completions, a line {"prompt": ..., "completions": [...]} or {"prompt", "completion"} each.
      thinking: whether answers show the thought of the model between tags.
      alias: stands for address and name of a server in the cache, for one that moves; empty for those themselves.
      max_failures: requests that fail in a row before the run ends, for then the server is gone; 0 to go on for ever.
        Not in the paper.
    """

    kind: Literal["endpoint", "sampler", "recorded"]
    endpoint: EndpointSettings | None = None
    decoding: DecodingSettings = dataclasses.field(default_factory=DecodingSettings)
    model: str = ""
    sampler: SamplerSettings | None = None
    dtype: Literal["float32", "bfloat16"] | None = None
    mesh: MeshSettings = dataclasses.field(default_factory=MeshSettings)
    path: str = ""
    thinking: bool = False
    alias: str = ""
    max_failures: int = MAX_FAILURES

    def __post_init__(self):
        if self.kind == "endpoint" and self.endpoint is None:
            raise UserError("a generator of kind 'endpoint' needs the section endpoint, with base_url and model.")
        if self.kind == "sampler" and (self.sampler is None or not self.model):
            raise UserError(
                "a generator of kind 'sampler' needs model, a folder, and the section sampler, with prompt_length and "
                "max_response."
            )
        if self.kind == "sampler" and self.decoding.max_tokens > self.sampler.max_response:
            raise UserError(
                f"decoding.max_tokens={self.decoding.max_tokens} tokens do not fit into sampler.max_response="
                f"{self.sampler.max_response}; make them equal."
            )
        if self.kind == "recorded" and not self.path:
            raise UserError("a generator of kind 'recorded' needs path, a JSONL file of prompts with completions.")
        if self.max_failures < 0:
            raise UserError(f"max_failures={self.max_failures} must be at least 1, or 0 for no limit.")


class Askers(Mapping[str, Asker]):
    """The generators of a config, opened when a stage first wants them: a model may take minutes to load."""

    def __init__(self, generators: Mapping[str, GeneratorSettings], folder: str | os.PathLike, *, seed: int = 0):
        """Opens nothing yet.

        Args:
          generators: by name.
          folder: of the answers' cache, which all of them share.
          seed: of all sampling.
        """
        self._settings, self._folder, self._seed = dict(generators), folder, seed
        self._askers: dict[str, Asker] = {}
        self._opening = threading.Lock()

    def __getitem__(self, name: str) -> Asker:
        """Returns the asker of a generator.

        Raises:
          UserError: if there is none of that name, or it cannot be opened.
        """
        if name not in self._settings:
            known = ", ".join(sorted(self._settings)) or "none"
            raise UserError(f"there is no generator {name!r} in the section generators (there are: {known}).")
        with self._opening:
            if name not in self._askers:
                self._askers[name] = open_asker(self._settings[name], self._folder, seed=self._seed)
            return self._askers[name]

    def __contains__(self, name: object) -> bool:
        return name in self._settings

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns what was asked and what was found in the cache so far, of the generators that were opened."""
        return {name: dict(asker.counts) for name, asker in self._askers.items()}


def open_asker(settings: GeneratorSettings, folder: str | os.PathLike, *, seed: int = 0) -> Asker:
    """Opens a generator behind the cache in `folder`; recorded completions need none.

    Raises:
      UserError: for a model, a file or a folder that cannot be opened.
    """
    generator, identity = _open(settings)
    cache = None if settings.kind == "recorded" else open_answers(folder)
    return Asker(
        generator,
        {"kind": settings.kind, **identity},
        cache,
        thinking=settings.thinking,
        seed=seed,
        max_failures=0 if settings.kind == "recorded" else settings.max_failures,
    )


def _open(settings: GeneratorSettings) -> tuple[Generator, dict[str, Any]]:
    """Returns a generator, and what decides its answers."""
    decoding = dataclasses.asdict(settings.decoding)
    if settings.kind == "recorded":
        generator = RecordedGenerator(settings.path)
        return generator, {"recording": generator.digest}
    if settings.kind == "endpoint":
        endpoint = settings.endpoint
        server = {"alias": settings.alias} if settings.alias else {"url": endpoint.base_url, "model": endpoint.model}
        decode = settings.decoding
        generator = EndpointGenerator(endpoint, decode.params(), decode.stop, failures_end_it=False)
        return generator, {**server, "extra": endpoint.extra, "omit": endpoint.omit, "decoding": decoding}
    generator, provenance = _load(settings)
    return generator, {**provenance, "decoding": decoding}


def _load(settings: GeneratorSettings) -> tuple[Generator, dict[str, Any]]:
    """Loads a model folder; checkpoints and compiled programs are imported only where one is asked for."""
    from phi4r.checkpoint.release import load_model
    from phi4r.evals.loading import make_generator
    from phi4r.evals.provenance import model_provenance
    from phi4r.model.rope_scaling import RopeSettings
    from phi4r.sharding import make_mesh
    from phi4r.text.chat import load_chat

    chat, mesh = load_chat(settings.model), make_mesh(settings.mesh)
    loaded = load_model(settings.model, mesh=mesh, dtype=settings.dtype)
    provenance = {**model_provenance(loaded.folder, loaded.params), "dtype": loaded.config.param_dtype}
    shapes = {"weights": settings.sampler.weights, "cache": settings.sampler.cache}
    generator = make_generator(
        loaded, chat, sampler=settings.sampler, decoding=settings.decoding, rope=RopeSettings(), mesh=mesh
    )
    return generator, {**provenance, "sampler": shapes}


class RecordedGenerator:
    """A Generator that says what a file says: gold solutions, or answers that somebody else has collected.

    A prompt is looked up by the last message. Where that is not in the file, what a stage has put after the prompt,
    past a blank line, is left out. A prompt with one completion has that one for every sample.

    Attributes:
      digest: of the file, to tell recordings apart.
    """

    def __init__(self, path: str | os.PathLike):
        """Reads the file.

        Raises:
          UserError: if it cannot be read, is empty, or has a row of another form; it names the line.
        """
        try:
            data = pathlib.Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; give a JSONL file of prompts.") from error
        self.digest = hashlib.sha256(data).hexdigest()[:16]
        self._completions: dict[str, list[str]] = {}
        for number, line in enumerate(data.split(b"\n"), start=1):
            if line.strip():
                prompt, completions = _recorded(parse_row(line, where=f"{path}:{number}"), where=f"{path}:{number}")
                self._completions.setdefault(prompt, []).extend(completions)
        if not self._completions:
            raise UserError(f"{path} has no rows; write a prompt with its completions on each line.")

    def __call__(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        num_samples: int = 1,
        seed: int,
        prompt_ids: Sequence[int] | None = None,
        sample_ids: Sequence[Sequence[int]] | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[list[Completion]]:
        """Answers conversations (see `Generator`); what was not recorded has failed."""
        sample_ids = [range(num_samples)] * len(conversations) if sample_ids is None else sample_ids
        answers = [
            [self._answer(conversation, sample) for sample in samples]
            for conversation, samples in zip(conversations, sample_ids, strict=True)
        ]
        if on_completion is not None:
            for row, answer in enumerate(answer for of in answers for answer in of):
                on_completion(row, answer)
        return answers

    def _answer(self, conversation: Sequence[Message], sample: int) -> Completion:
        prompt = conversation[-1]["content"]
        while prompt and prompt not in self._completions:
            prompt = prompt.rpartition("\n\n")[0]
        completions = self._completions.get(prompt, [])
        if len(completions) == 1:
            return Completion(completions[0], 0, "stop")
        if sample < len(completions):
            return Completion(completions[sample], 0, "stop")
        return Completion(f"the recording has {len(completions)} completions of this prompt.", 0, FAILED)


def _recorded(row: Mapping[str, Any], *, where: str) -> tuple[str, list[str]]:
    """Reads a row of a recording."""
    prompt = row.get("prompt")
    completions = row.get("completions", [row["completion"]] if "completion" in row else None)
    if not isinstance(prompt, str) or not isinstance(completions, list):
        raise UserError(f"{where} must have 'prompt', a text, and 'completions', a list of texts.")
    if not all(isinstance(completion, str) for completion in completions):
        raise UserError(f"{where} has a completion that is no text; write texts only.")
    return prompt, completions
