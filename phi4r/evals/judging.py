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
import re
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.data.records import Problem, write_json
from phi4r.errors import UserError
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.judges import JUDGES, Judgement, ask_extraction, response_hash, solution_of
from phi4r.evals.record_log import RecordLog
from phi4r.evals.responses import Response
from phi4r.evals.tasks import Task
from phi4r.metrics.progress import Progress
from phi4r.sampling.endpoint import EndpointGenerator, EndpointSettings
from phi4r.sampling.generator import Completion, Generator
from phi4r.settings import first_difference
from phi4r.verifiers.answers import END_OF_THOUGHT
from phi4r.verifiers.pool import DEADLINE_S, VerifierPool

# An answer that is in a form which the rules look for already: announced, boxed, in tags, or several lines.
_FORMED = re.compile(r"\n|boxed|answer\s*:|</\w", re.IGNORECASE)
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
            "omit": self.endpoint.omit,
            "decoding": dataclasses.asdict(self.decoding),
        }


@dataclasses.dataclass(frozen=True)
class Extraction:
    """A final answer that was read out of a response, with its verdict."""

    id: str
    run: int
    response: str  # hash of the text that was read
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
    log = RecordLog(workdir / "judgements.jsonl", Judgement)
    _settle(workdir / "judge.json", protocol, log)
    responses = _without_open_thoughts(task, responses)
    wanted = {_key(response): response for response in responses if judge.wants(response)}
    judged = {(*_judged(judgement), judgement.game) for judgement in log.records}
    asked = [(key, game) for key in wanted for game in range(judge.num_games) if (*key, game) not in judged]
    problems = {problem.id: problem for problem in task.problems}

    def keep(row: int, reply: Completion) -> None:
        key, game = asked[row]
        log.append([Judgement(*key, game, reply.text, judge.read(reply.text))])

    conversations = [judge.ask(problems[key[0]], wanted[key], game) for key, game in asked]
    _ask(generator, conversations, f"judge {task.name}", keep)
    return judge.figures(responses, [judgement for judgement in log.records if _judged(judgement) in wanted])


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
    log = RecordLog(workdir / "extractions.jsonl", Extraction)
    _settle(workdir / "extraction.json", protocol, log)
    done = {_judged(extraction) for extraction in log.records}
    wanted = [response for response in _without_open_thoughts(task, responses) if _may_hide_an_answer(response)]
    asked = [response for response in wanted if _key(response) not in done]
    problems: dict[str, Problem] = {problem.id: problem for problem in task.problems}
    with VerifierPool(deadline_s=deadline_s) as pool:

        def keep(row: int, reply: Completion) -> None:
            response = asked[row]
            answer = f"<think></think>{_as_final(reply.text)}"
            verdict = pool.submit(task.verifier, answer, problems[response.id].answer).result()
            log.append([Extraction(*_key(response), reply.text, verdict.correct, verdict.status)])

        conversations = [ask_extraction(problems[response.id], response) for response in asked]
        _ask(generator, conversations, f"extract {task.name}", keep)
    keys = {_key(response) for response in wanted}
    found = [extraction for extraction in log.records if _judged(extraction) in keys]
    right, more = sum(response.correct for response in responses), sum(extraction.correct for extraction in found)
    return {
        "accuracy": (right + more) / len(responses),
        "accuracy_by_rules": right / len(responses),
        "extracted": float(sum(extraction.status != "no_answer" for extraction in found)),
        "found_right": float(more),
    }


def _key(response: Response) -> tuple[str, int, str]:
    """Returns what a judgement of this response is known by."""
    return response.id, response.run, response_hash(response)


def _judged(record: Judgement | Extraction) -> tuple[str, int, str]:
    return record.id, record.run, record.response


def _without_open_thoughts(task: Task, responses: Sequence[Response]) -> list[Response]:
    """Returns the responses with no text where a thought was not closed: there is no solution to be shown."""
    thinking = getattr(task.verifier, "thinking", False)
    return [
        dataclasses.replace(response, text="") if thinking and END_OF_THOUGHT not in response.text else response
        for response in responses
    ]


def _may_hide_an_answer(response: Response) -> bool:
    return response.status == "no_answer" and response.finish_reason == "stop" and bool(solution_of(response))


def _as_final(reply: str) -> str:
    r"""Returns an extracted answer in a form in which the rules look for one; \boxed{} where it is a bare line."""
    text = reply.strip()
    if not text or text.upper().rstrip(".") == "NONE":
        return ""
    return text if _FORMED.search(text) else f"\\boxed{{{text}}}"


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


def _settle(path: pathlib.Path, protocol: Mapping[str, Any], log: RecordLog) -> None:
    """Writes the protocol of a judge, or checks that the one at `path`, by which `log` was made, is the same."""
    protocol = json.loads(json.dumps(protocol))
    if not path.exists():
        if log.records:
            raise UserError(f"{log.path} has lines, but there is no {path.name} beside it; delete it.")
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
