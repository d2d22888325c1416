"""Asks a model every problem of a task several times, judges the answers and keeps all of it on disk.

WORKDIR holds two files. `responses.jsonl` has every response with its verdict; it grows by one batch at a time, and a
run that is started again asks only for what is missing. `protocol.json` says how the answers were made (decoding,
seed, problems, template, versions), because a score without its protocol cannot be repeated.
"""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import phi4r
from phi4r.data.records import Problem, write_json
from phi4r.errors import UserError
from phi4r.evals.responses import Response, ResponseLog, response_table
from phi4r.evals.scores import Scores
from phi4r.evals.tasks import Task
from phi4r.metrics.progress import Progress
from phi4r.sampling import SamplingParams
from phi4r.sampling.generator import Completion, Generator
from phi4r.settings import first_difference
from phi4r.text.tokenizer import Tokenizer
from phi4r.verifiers.pool import DEADLINE_S, VerifierPool
from phi4r.verifiers.specification import specification

RESPONSES_FILE = "responses.jsonl"
PROTOCOL_FILE = "protocol.json"


@dataclasses.dataclass(frozen=True)
class DecodingSettings:
    """How answers are decoded; the defaults are those of the Phi-4-reasoning release.

    Attributes:
      temperature: 0 is greedy.
      top_p: nucleus, 1 for all tokens.
      top_k: 0 for all tokens.
      max_tokens: limit of a response, its end token included.
      min_p: least probability of a token as a share of the likeliest one's, 0 for all tokens.
      stop: strings at which a response ends.
      max_thought: tokens after which an open thought is closed by force (budget forcing, not in the paper), 0 for no
        thought at all; None for thoughts of any length.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 50
    max_tokens: int = 32768
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    max_thought: int | None = None

    def __post_init__(self):
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0 or self.max_tokens < 1:
            raise UserError(
                "decoding needs temperature >= 0, 0 < top_p <= 1, top_k >= 0 and max_tokens >= 1, not "
                f"{self.temperature:g}, {self.top_p:g}, {self.top_k} and {self.max_tokens}."
            )
        if not 0 <= self.min_p < 1:
            raise UserError(f"decoding needs 0 <= min_p < 1, not {self.min_p:g}.")
        if self.max_thought is not None and self.max_thought < 0:
            raise UserError(f"decoding needs max_thought >= 0, not {self.max_thought}; leave it out for no limit.")
        if "" in self.stop:
            raise UserError("decoding has an empty stop string, which would end every response; leave it out.")

    def params(self) -> SamplingParams:
        """Returns what the sampler takes; `stop` is the generator's."""
        values = dataclasses.asdict(self)
        del values["stop"]
        if self.max_thought is None:
            del values["max_thought"]
        return SamplingParams(**values)

    def end_think_id(self, tokenizer: Tokenizer) -> int | None:
        """Returns the token that closes a thought by force, which the sampler is told only where that is wanted.

        Raises:
          UserError: for `max_thought` and a tokenizer without think tokens.
        """
        return None if self.max_thought is None else tokenizer.end_think_id


@dataclasses.dataclass(frozen=True)
class EvalResult:
    """A finished evaluation."""

    task: str
    scores: Scores
    responses: tuple[Response, ...]
    protocol: dict[str, Any]  # how the answers were made, as JSON values


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Problems that lack the same runs."""

    runs: tuple[int, ...]
    problems: tuple[Problem, ...]
    seed: int


def evaluate(
    generator: Generator,
    task: Task,
    *,
    workdir: str | os.PathLike,
    decoding: DecodingSettings,
    num_runs: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    deadline_s: float = DEADLINE_S,
    provenance: Mapping[str, Any] | None = None,
) -> EvalResult:
    """Evaluates a model on a task; started again in the same folder it goes on where it stopped.

    Args:
      generator: answers conversations.
      task: what is asked and how it is judged.
      workdir: folder of this evaluation, made if it is missing.
      decoding: how `generator` decodes; it is recorded, the generator itself must be built with it.
      num_runs: how often every problem is asked; the task's own number by default. More runs than last time extend
        the evaluation.
      seed: of the generator's randomness; every batch gets one of its own, derived from it.
      batch_size: responses asked for at a time.
      deadline_s: seconds that one verification may take.
      provenance: JSON values that identify the model and its chat template, for the protocol.

    Returns:
      Scores, responses of the first `num_runs` runs, and the protocol.

    Raises:
      UserError: if the folder holds an evaluation under another protocol, or cannot be written.
    """
    num_runs = task.num_runs if num_runs is None else num_runs
    if num_runs < 1 or batch_size < 1:
        raise UserError(f"an evaluation needs num_runs >= 1 and batch_size >= 1, not {num_runs} and {batch_size}.")
    workdir = pathlib.Path(workdir)
    protocol = _protocol(task, decoding, seed, deadline_s, provenance or {})
    _settle_protocol(workdir, protocol)
    log = ResponseLog(workdir / RESPONSES_FILE)
    asked = [response for response in log.responses if response.run < num_runs]
    done = {(response.id, response.run) for response in asked}
    batches = list(_plan(task.problems, done, num_runs, batch_size, seed))
    if batches:
        with (
            VerifierPool(deadline_s=deadline_s) as pool,
            Progress(f"evaluate {task.name}", total=len(task.problems) * num_runs) as progress,
        ):
            progress.update(len(asked))
            for batch in batches:
                answered = _answer(generator, task, batch, pool)
                log.append(answered)
                asked += answered
                progress.update(len(asked), accuracy=sum(response.correct for response in asked) / len(asked))
    return EvalResult(task.name, response_table(asked).scores(), tuple(asked), protocol)


def _plan(
    problems: Sequence[Problem], done: set[tuple[str, int]], num_runs: int, batch_size: int, seed: int
) -> Iterator[_Batch]:
    """Yields batches of at most `batch_size` responses that are not done, the first runs first.

    Where the whole task fits several times into a batch, that many runs are asked for together, so that the samples
    of a problem share its prefill.
    """
    runs_together = min(max(batch_size // len(problems), 1), num_runs)
    for first in range(0, num_runs, runs_together):
        runs = range(first, min(first + runs_together, num_runs))
        by_missing: dict[tuple[int, ...], list[int]] = {}
        for number, problem in enumerate(problems):
            missing = tuple(run for run in runs if (problem.id, run) not in done)
            by_missing.setdefault(missing, []).append(number)
        by_missing.pop((), None)
        for missing, lacking in by_missing.items():
            size = max(batch_size // len(missing), 1)
            for start in range(0, len(lacking), size):
                chosen = lacking[start : start + size]
                # No two batches begin with the same run of the same problem, so each has randomness of its own.
                batch_seed = np.random.SeedSequence([seed, missing[0], chosen[0]]).generate_state(1)[0]
                yield _Batch(missing, tuple(problems[number] for number in chosen), int(batch_seed) % 2**31)


def _answer(generator: Generator, task: Task, batch: _Batch, pool: VerifierPool) -> list[Response]:
    """Asks for the responses of a batch and judges them."""
    conversations = [task.conversation(problem) for problem in batch.problems]
    answers = generator(conversations, num_samples=len(batch.runs), seed=batch.seed)
    cells: list[tuple[Problem, int, Completion]] = [
        (problem, run, completion)
        for problem, completions in zip(batch.problems, answers, strict=True)
        for run, completion in zip(batch.runs, completions, strict=True)
    ]
    verdicts = pool.verify_all(
        task.verifier, [completion.text for _, _, completion in cells], [problem.answer for problem, _, _ in cells]
    )
    return [
        Response(
            id=problem.id,
            run=run,
            text=completion.text,
            num_tokens=completion.num_tokens,
            finish_reason=completion.finish_reason,
            **dataclasses.asdict(verdict),
        )
        for (problem, run, completion), verdict in zip(cells, verdicts, strict=True)
    ]


def _protocol(
    task: Task, decoding: DecodingSettings, seed: int, deadline_s: float, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns everything that the answers depend on, as JSON values."""
    protocol = {
        "task": task.name,
        "num_items": len(task.problems),
        "problems": task.digest(),
        "system_message": task.system_message,
        "verifier": specification(task.verifier),
        "deadline_s": deadline_s,
        "decoding": dataclasses.asdict(decoding),
        "seed": seed,
        "provenance": dict(provenance),
        "versions": {
            "phi4r": phi4r.__version__,
            **{name: importlib.metadata.version(name) for name in ("jax", "latex2sympy2_extended", "sympy")},
        },
    }
    return json.loads(json.dumps(protocol))


def _settle_protocol(workdir: pathlib.Path, protocol: dict[str, Any]) -> None:
    """Writes protocol.json, or checks that the one in `workdir` is the same."""
    path = workdir / PROTOCOL_FILE
    if not path.exists():
        if (workdir / RESPONSES_FILE).exists():
            raise UserError(f"{workdir} has responses but no {PROTOCOL_FILE}; use another --workdir.")
        write_json(path, protocol)
        return
    try:
        difference = first_difference(json.loads(path.read_text(encoding="utf-8")), protocol)
    except ValueError as error:
        raise UserError(f"{path} is damaged; use another --workdir.") from error
    if difference is not None:
        name, before, now = difference
        raise UserError(
            f"{workdir} holds an evaluation under another protocol: {name} was {before!r} and is now {now!r}; "
            "use another --workdir, or delete this one."
        )
