"""Asks a model every problem of a task several times, judges the answers and keeps all of it on disk.

WORKDIR holds three files. `responses.jsonl` has every response with its verdict; it grows by one line as soon as a
response is judged, and a run that is started again asks only for what is missing. `protocol.json` says how the answers
were made (decoding, seed, problems, template, versions), because a score without its protocol cannot be repeated.
`items.jsonl` has the groups of every problem that results are broken down by, and what a benchmark's own figures need
of it (the standings of a contest).
"""

import concurrent.futures
import dataclasses
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import phi4r
from phi4r.data.records import Problem, write_json, write_jsonl
from phi4r.errors import UserError
from phi4r.evals.benchmarks.table import BENCHMARKS
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.record_log import RecordLog
from phi4r.evals.responses import Response, response_table
from phi4r.evals.scores import Scores
from phi4r.evals.tasks import Task
from phi4r.metrics.progress import Progress
from phi4r.sampling.generator import Completion, Generator
from phi4r.settings import first_difference
from phi4r.verifiers.pool import DEADLINE_S, VerifierPool
from phi4r.verifiers.specification import specification
from phi4r.verifiers.verdict import Verdict

RESPONSES_FILE = "responses.jsonl"
PROTOCOL_FILE = "protocol.json"
ITEMS_FILE = "items.jsonl"
RESULTS_FILE = "results.json"  # written by `phi4r.evals.experiment`


@dataclasses.dataclass(frozen=True)
class EvalResult:
    """A finished evaluation."""

    task: str
    scores: Scores
    responses: tuple[Response, ...]
    protocol: dict[str, Any]  # how the answers were made, as JSON values


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

    An answer depends on the seed, the number of the problem and the run, and not on what else is asked with it: where
    the generator keeps to its seeds, an evaluation that was interrupted gives the answers of one that was not.

    Args:
      generator: answers conversations.
      task: what is asked and how it is judged.
      workdir: folder of this evaluation, made if it is missing.
      decoding: how `generator` decodes; it is recorded, the generator itself must be built with it.
      num_runs: how often every problem is asked; the task's own number by default. More runs than last time extend
        the evaluation.
      seed: of the generator's randomness.
      batch_size: responses asked for in one call of the generator.
      deadline_s: seconds that one verification may take.
      provenance: JSON values that identify the model and its chat template, for the protocol.

    Returns:
      Scores, responses of the first `num_runs` runs in the order of problems and runs, and the protocol.

    Raises:
      UserError: if the folder holds an evaluation under another protocol or cannot be written, or the generator gives
        up. What was answered until then is kept.
    """
    num_runs = task.num_runs if num_runs is None else num_runs
    if num_runs < 1 or batch_size < 1:
        raise UserError(f"an evaluation needs num_runs >= 1 and batch_size >= 1, not {num_runs} and {batch_size}.")
    workdir = pathlib.Path(workdir)
    protocol = _protocol(task, decoding, seed, deadline_s, provenance or {})
    _settle_protocol(workdir, task, protocol)
    log = RecordLog(workdir / RESPONSES_FILE, Response)
    stored = [response for response in log.records if response.run < num_runs]
    batches = list(_plan(task, {(response.id, response.run) for response in stored}, num_runs, batch_size))
    if batches:
        with (
            VerifierPool(deadline_s=deadline_s) as pool,
            Progress(f"evaluate {task.name}", total=len(task.problems) * num_runs) as progress,
        ):
            tally = _Tally(progress, stored)
            for batch in batches:
                with _Answering(task, batch, pool, log, tally) as answering:
                    generator(
                        [task.conversation(problem) for _, problem, _ in batch],
                        seed=seed,
                        prompt_ids=[number for number, _, _ in batch],
                        sample_ids=[runs for _, _, runs in batch],
                        on_completion=answering.finish,
                    )
    order = {problem.id: number for number, problem in enumerate(task.problems)}
    asked = [response for response in log.records if response.run < num_runs]
    asked.sort(key=lambda response: (order[response.id], response.run))
    return EvalResult(task.name, response_table(asked).scores(), tuple(asked), protocol)


# Problems of one call of the generator: (number in the task, problem, the runs that it lacks).
_Batch = list[tuple[int, Problem, list[int]]]


def _plan(task: Task, answered: set[tuple[str, int]], num_runs: int, batch_size: int) -> Iterator[_Batch]:
    """Yields what is not answered, at most `batch_size` responses at a time (or one problem), the first runs first.

    Where the whole task fits several times into a batch, that many runs are asked for together, so that the samples
    of a problem share its prefill.
    """
    runs_together = min(max(batch_size // len(task.problems), 1), num_runs)
    batch: _Batch = []
    for first in range(0, num_runs, runs_together):
        for number, problem in enumerate(task.problems):
            runs = range(first, min(first + runs_together, num_runs))
            missing = [run for run in runs if (problem.id, run) not in answered]
            if missing and sum(len(runs) for _, _, runs in batch) + len(missing) > batch_size:
                yield batch
                batch = []
            if missing:
                batch.append((number, problem, missing))
    if batch:
        yield batch


class _Tally:
    """Counts answers and right ones, for the progress line."""

    def __init__(self, progress: Progress, stored: list[Response]):
        self._progress, self._answered = progress, len(stored)
        self._right = sum(response.correct for response in stored)
        progress.update(self._answered)

    def add(self, response: Response) -> None:
        self._answered += 1
        self._right += response.correct
        self._progress.update(self._answered, accuracy=self._right / self._answered)


class _Answering:
    """The answers to one batch: each is judged and written as soon as it is there, while others are still drawn."""

    def __init__(self, task: Task, batch: _Batch, pool: VerifierPool, log: RecordLog[Response], tally: _Tally):
        self._task, self._pool, self._log, self._tally = task, pool, log, tally
        self._cells = [(problem, run) for _, problem, runs in batch for run in runs]
        self._writer = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="responses")
        self._failure: Exception | None = None

    def __enter__(self) -> "_Answering":
        return self

    def __exit__(self, *exc) -> None:
        self._writer.shutdown(wait=True)  # what is finished is kept, whatever ended the batch
        if exc[0] is None and self._failure is not None:
            raise self._failure

    def finish(self, row: int, completion: Completion) -> None:
        """Takes an answer; raises what went wrong with an earlier one, so that a full disk ends the generation."""
        if self._failure is not None:
            raise self._failure
        problem, run = self._cells[row]
        verdict = self._pool.submit(self._task.verifier, completion.text, problem.answer)
        self._writer.submit(self._write, problem, run, completion, verdict)

    def _write(
        self, problem: Problem, run: int, completion: Completion, verdict: concurrent.futures.Future[Verdict]
    ) -> None:
        if self._failure is not None:  # after a failed write the file may end in half a line
            return
        try:
            response = Response(
                id=problem.id,
                run=run,
                text=completion.text,
                num_tokens=completion.num_tokens,
                finish_reason=completion.finish_reason,
                **dataclasses.asdict(verdict.result()),
            )
            self._log.append([response])
            self._tally.add(response)
        except Exception as error:  # raised again in the thread that generates
            self._failure = error


def _protocol(
    task: Task, decoding: DecodingSettings, seed: int, deadline_s: float, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns everything that the answers depend on, as JSON values."""
    protocol = {
        "task": task.name,
        "benchmark": task.benchmark,
        "title": task.title or task.name,
        "groups": task.groups,
        "num_items": len(task.problems),
        "malformed_rows": len(task.malformed),
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


def _item(problem: Problem, task: Task) -> dict[str, Any]:
    """Returns what is stored of a problem: its groups, and all meta where the benchmark has figures of its own."""
    item = {"id": problem.id, "groups": {key: problem.meta.get(key) for key in task.groups}}
    benchmark = BENCHMARKS.get(task.benchmark)
    return item if benchmark is None or benchmark.summary is None else {**item, "meta": problem.meta}


def _settle_protocol(workdir: pathlib.Path, task: Task, protocol: dict[str, Any]) -> None:
    """Writes protocol.json and items.jsonl, or checks that the protocol in `workdir` is the same."""
    path = workdir / PROTOCOL_FILE
    if not path.exists():
        if (workdir / RESPONSES_FILE).exists():
            raise UserError(f"{workdir} has responses but no {PROTOCOL_FILE}; use another --workdir.")
        write_jsonl(workdir / ITEMS_FILE, (_item(problem, task) for problem in task.problems))
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
