"""A language model as judge, and as reader of answers that rules did not find; off by default, always reported apart.

Both work on stored responses and keep what they got as lines on disk, so they can be interrupted, and repeated with
another model in another folder, without asking the judged model again:

    WORKDIR/TASK/judgements.jsonl     what the judge said about each response (`phi4r.evals.judges`)
    WORKDIR/TASK/extractions.jsonl    final answers that were read out of responses, and their verdicts
    WORKDIR/TASK/judge.json           which model judged, and how; extraction.json likewise
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.data.records import Problem, write_json
from phi4r.errors import UserError
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.judges import JUDGES, Judgement, ask_extraction
from phi4r.evals.record_log import RecordLog
from phi4r.evals.responses import Response
from phi4r.evals.tasks import Task
from phi4r.metrics.progress import Progress
from phi4r.sampling.endpoint import EndpointGenerator, EndpointSettings
from phi4r.sampling.generator import Completion, Generator
from phi4r.settings import first_difference
from phi4r.verifiers.pool import DEADLINE_S, VerifierPool

_GREEDY = DecodingSettings(temperature=0.0, top_p=1.0, top_k=0, max_tokens=4096)


@dataclasses.dataclass(frozen=True)
class JudgeSettings:
    """A model that judges, or reads answers.

    Attributes:
      endpoint: the server and the model there.
      decoding: how its replies are decoded; greedily by default.
    """

    endpoint: EndpointSettings
    decoding: DecodingSettings = _GREEDY

    def generator(self) -> Generator:
        """Returns the generator of the model."""
        return EndpointGenerator(self.endpoint, self.decoding.params(), self.decoding.stop)

    def protocol(self) -> dict[str, Any]:
        """Returns what the replies depend on, as JSON values."""
        return {
            "base_url": self.endpoint.base_url,
            "model": self.endpoint.model,
            "extra": self.endpoint.extra,
            "decoding": dataclasses.asdict(self.decoding),
        }


@dataclasses.dataclass(frozen=True)
class Extraction:
    """A final answer that was read out of a response, with its verdict."""

    id: str
    run: int
    text: str  # the reply
    correct: bool
    status: str


def judge_responses(
    generator: Generator,
    task: Task,
    responses: Sequence[Response],
    *,
    workdir: str | pathlib.Path,
    protocol: Mapping[str, Any],
) -> dict[str, float]:
    """Has a model judge the responses of a task; returns the figures of its judge (`phi4r.evals.judges.JUDGES`).

    Args:
      generator: the judging model.
      task: whose `judge` is not empty.
      responses: of the evaluated model.
      workdir: of the evaluation of this task.
      protocol: JSON values that identify the judge.

    Raises:
      UserError: if the folder holds judgements of another judge, or the generator gives up; what was judged is kept.
    """
    judge, workdir = JUDGES[task.judge], pathlib.Path(workdir)
    _settle(workdir / "judge.json", protocol)
    log = RecordLog(workdir / "judgements.jsonl", Judgement)
    wanted = {(response.id, response.run): response for response in responses if judge.wants(response)}
    judged = {(judgement.id, judgement.run, judgement.game) for judgement in log.records}
    asked = [(*cell, game) for cell in wanted for game in range(judge.num_games) if (*cell, game) not in judged]
    problems = {problem.id: problem for problem in task.problems}

    def keep(row: int, reply: Completion) -> None:
        item, run, game = asked[row]
        log.append([Judgement(item, run, game, reply.text, judge.read(reply.text))])

    conversations = [judge.ask(problems[item], wanted[item, run], game) for item, run, game in asked]
    _ask(generator, conversations, f"judge {task.name}", keep)
    return judge.figures(responses, [judgement for judgement in log.records if (judgement.id, judgement.run) in wanted])


def extract_answers(
    generator: Generator,
    task: Task,
    responses: Sequence[Response],
    *,
    workdir: str | pathlib.Path,
    protocol: Mapping[str, Any],
    deadline_s: float = DEADLINE_S,
) -> dict[str, float]:
    """Has a model write out the final answers that rules did not find, and has the rules judge those.

    Args:
      generator: the reading model.
      task, responses, workdir, protocol: as for `judge_responses`.
      deadline_s: seconds that one verification may take.

    Returns:
      `accuracy` with those answers, `accuracy_by_rules` without, how many were `extracted` and `found_right`.

    Raises:
      UserError: as `judge_responses`.
    """
    workdir = pathlib.Path(workdir)
    _settle(workdir / "extraction.json", protocol)
    log = RecordLog(workdir / "extractions.jsonl", Extraction)
    done = {(extraction.id, extraction.run) for extraction in log.records}
    wanted = [response for response in responses if response.status == "no_answer" and response.finish_reason == "stop"]
    asked = [response for response in wanted if (response.id, response.run) not in done]
    problems: dict[str, Problem] = {problem.id: problem for problem in task.problems}
    with VerifierPool(deadline_s=deadline_s) as pool:

        def keep(row: int, reply: Completion) -> None:
            response = asked[row]
            answer = f"<think></think>{_as_final(reply.text)}"
            verdict = pool.submit(task.verifier, answer, problems[response.id].answer).result()
            log.append([Extraction(response.id, response.run, reply.text, verdict.correct, verdict.status)])

        conversations = [ask_extraction(problems[response.id], response) for response in asked]
        _ask(generator, conversations, f"extract {task.name}", keep)
    cells = {(response.id, response.run) for response in wanted}
    found = [extraction for extraction in log.records if (extraction.id, extraction.run) in cells]
    right, more = sum(response.correct for response in responses), sum(extraction.correct for extraction in found)
    return {
        "accuracy": (right + more) / len(responses),
        "accuracy_by_rules": right / len(responses),
        "extracted": float(sum(extraction.status != "no_answer" for extraction in found)),
        "found_right": float(more),
    }


def _as_final(reply: str) -> str:
    r"""Returns an extracted answer in a form in which the rules look for one; \boxed{} where it is a bare line."""
    text = reply.strip()
    if not text or text.upper() == "NONE":
        return ""
    return text if "\n" in text or "boxed" in text or ":" in text or "<" in text else f"\\boxed{{{text}}}"


def _ask(generator: Generator, conversations: list, stage: str, keep) -> None:
    """Asks all conversations, with a progress line."""
    if not conversations:
        return
    with Progress(stage, total=len(conversations)) as progress:
        num_replies = 0

        def take(row: int, reply: Completion) -> None:
            nonlocal num_replies
            keep(row, reply)
            num_replies += 1
            progress.update(num_replies)

        generator(conversations, seed=0, on_completion=take)


def _settle(path: pathlib.Path, protocol: Mapping[str, Any]) -> None:
    """Writes the protocol of a judge, or checks that the one at `path` is the same."""
    protocol = json.loads(json.dumps(protocol))
    if not path.exists():
        write_json(path, protocol)
        return
    try:
        difference = first_difference(json.loads(path.read_text(encoding="utf-8")), protocol)
    except ValueError as error:
        raise UserError(f"{path} is damaged; delete it and the judgements beside it.") from error
    if difference is not None:
        name, before, now = difference
        raise UserError(
            f"{path.parent} was judged by another model: {name} was {before!r} and is now {now!r}; use another "
            f"--workdir, or delete {path.name} and the lines beside it."
        )
