"""Task: problems together with how they are asked and how answers are judged.

Tasks are named by a spec:

    chains:SPLIT?num=500&min_ops=6&max_ops=7&seed=0     procedural arithmetic chains (`phi4r.evals.chains`)
    jsonl:PATH                                          a file of Problems with mathematical answers

Either takes `thinking=0` among its parameters (`jsonl:PATH?thinking=0`), for models that answer without a thought;
otherwise a response without `</think>` counts as cut off, and is wrong.

The same object serves evaluation, reinforcement learning and decontamination.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections import Counter
from urllib.parse import parse_qsl

from phi4r.data.records import Problem, read_jsonl
from phi4r.errors import UserError
from phi4r.evals.chains import chain_problems
from phi4r.text.chat import Chat
from phi4r.text.template import Message
from phi4r.verifiers.exact import IntegerVerifier
from phi4r.verifiers.math import MathVerifier
from phi4r.verifiers.verdict import Verifier

CHAINS_SPEC = "chains:SPLIT?num=500&min_ops=6&max_ops=7&seed=0"
JSONL_SPEC = "jsonl:PATH"


@dataclasses.dataclass(frozen=True)
class Task:
    """A benchmark, or a set of problems to learn from.

    Attributes:
      name: short, for tables.
      problems: with distinct ids.
      verifier: (response, reference) -> Verdict; runs in a `VerifierPool`.
      system_message: put before every prompt, or None for the chat template's own.
      num_runs: how often the protocol of the task asks every problem.
    """

    name: str
    problems: tuple[Problem, ...]
    verifier: Verifier
    system_message: str | None = None
    num_runs: int = 1

    def __post_init__(self):
        if not self.problems:
            raise UserError(f"task {self.name} has no problems; give it at least one.")
        ((commonest, count),) = Counter(problem.id for problem in self.problems).most_common(1)
        if count > 1:
            raise UserError(f"task {self.name} has {count} problems with the id {commonest!r}; make the ids distinct.")

    def conversation(self, problem: Problem) -> list[Message]:
        """Returns the messages that ask `problem`."""
        system = [] if self.system_message is None else [{"role": "system", "content": self.system_message}]
        return [*system, {"role": "user", "content": problem.prompt}]

    def digest(self) -> str:
        """Returns a hash of all ids, prompts and references: two tasks of one digest ask the same."""
        rows = [[problem.id, problem.prompt, problem.answer] for problem in self.problems]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def check_prompts(task: Task, chat: Chat, *, prompt_length: int) -> None:
    """Refuses a task with prompts that a sampler has no room for, before a model is loaded.

    Args:
      task: whose prompts are rendered.
      chat: renders them.
      prompt_length: tokens that a prompt may have (`SamplerSettings.prompt_length`).

    Raises:
      UserError: naming the longest prompt, if it is too long.
    """
    lengths = [len(chat.prompt_ids(task.conversation(problem))) for problem in task.problems]
    longest = max(lengths)
    if longest > prompt_length:
        problem = task.problems[lengths.index(longest)]
        num_long = sum(length > prompt_length for length in lengths)
        raise UserError(
            f"{num_long} of {len(lengths)} prompts of task {task.name} have more than "
            f"sampler.prompt_length={prompt_length} tokens: problem {problem.id} has a prompt of {longest} tokens, the "
            f"most; raise sampler.prompt_length={prompt_length} to that, or leave long problems out."
        )


def load_task(spec: str, *, system_message: str | None = None) -> Task:
    """Builds the task that `spec` names (see the module's docstring).

    Raises:
      UserError: for an unknown kind of task, a bad parameter, or a file that cannot be read.
    """
    kind, _, rest = spec.partition(":")
    place, _, query = rest.partition("?")
    if kind == "chains":
        parameters = _parameters(spec, query, known=("num", "min_ops", "max_ops", "seed", "thinking"), form=CHAINS_SPEC)
        thinking = bool(parameters.pop("thinking", 1))
        missing = [key for key in ("num", "min_ops", "max_ops") if key not in parameters]
        if missing:
            raise UserError(f"task {spec!r} lacks {', '.join(missing)}; write {CHAINS_SPEC}.")
        problems = chain_problems(split=place, **{"seed": 0, **parameters})
        return Task(f"chains-{place}", tuple(problems), IntegerVerifier(thinking=thinking), system_message)
    if kind == "jsonl":
        thinking = bool(_parameters(spec, query, known=("thinking",), form=JSONL_SPEC).get("thinking", 1))
        problems = read_jsonl(place, Problem)
        return Task(pathlib.Path(place).stem, tuple(problems), MathVerifier(thinking=thinking), system_message)
    raise UserError(f"unknown task {spec!r}; write {CHAINS_SPEC} or {JSONL_SPEC}.")


def _parameters(spec: str, query: str, *, known: tuple[str, ...], form: str) -> dict[str, int]:
    """Reads `key=number&...`."""
    parameters = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known or not (value.isascii() and value.isdecimal()):
            raise UserError(
                f"task {spec!r}: {key}={value} is not one of {', '.join(known)} with a whole number; write {form}."
            )
        parameters[key] = int(value)
    if parameters.get("thinking", 1) > 1:
        raise UserError(f"task {spec!r}: thinking is 1 (the default) or 0.")
    return parameters
