"""Task: problems together with how they are asked and how answers are judged.

Tasks are named by a spec:

    chains:SPLIT?num=500&min_ops=6&max_ops=7&seed=0     procedural arithmetic chains (`phi4r.evals.chains`)
    jsonl:PATH                                          a file of Problems with mathematical answers

The same object serves evaluation, reinforcement learning and decontamination.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable
from urllib.parse import parse_qsl

from phi4r.data.records import Message, Problem, read_jsonl
from phi4r.errors import UserError
from phi4r.evals.chains import chain_problems
from phi4r.verifiers.math import MathVerifier
from phi4r.verifiers.verdict import Verdict

CHAINS_SPEC = "chains:SPLIT?num=500&min_ops=6&max_ops=7&seed=0"


@dataclasses.dataclass(frozen=True)
class Task:
    """A benchmark, or a set of problems to learn from.

    Attributes:
      name: short, for tables.
      problems: with distinct ids.
      verifier: (response, reference) -> Verdict; picklable.
      system_message: put before every prompt, or None for the chat template's own.
      num_runs: how often the protocol of the task asks every problem.
    """

    name: str
    problems: tuple[Problem, ...]
    verifier: Callable[[str, str], Verdict]
    system_message: str | None = None
    num_runs: int = 1

    def __post_init__(self):
        if not self.problems:
            raise UserError(f"task {self.name} has no problems; give it at least one.")
        ids = [problem.id for problem in self.problems]
        if len(set(ids)) != len(ids):
            repeated = next(i for i in ids if ids.count(i) > 1)
            raise UserError(f"task {self.name} has two problems with the id {repeated!r}; make the ids distinct.")

    def conversation(self, problem: Problem) -> list[Message]:
        """Returns the messages that ask `problem`."""
        system = [] if self.system_message is None else [{"role": "system", "content": self.system_message}]
        return [*system, {"role": "user", "content": problem.prompt}]

    def digest(self) -> str:
        """Returns a hash of all ids, prompts and references: two tasks of one digest ask the same."""
        rows = [[problem.id, problem.prompt, problem.answer] for problem in self.problems]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def load_task(spec: str, *, system_message: str | None = None, num_runs: int = 1) -> Task:
    """Builds the task that `spec` names (see the module's docstring).

    Raises:
      UserError: for an unknown kind of task, a bad parameter, or a file that cannot be read.
    """
    kind, _, rest = spec.partition(":")
    if kind == "chains":
        problems = _load_chains(spec, rest)
        name = "chains-" + rest.partition("?")[0]
    elif kind == "jsonl":
        problems = read_jsonl(rest, Problem)
        name = pathlib.Path(rest).stem
    else:
        raise UserError(f"unknown task {spec!r}; write {CHAINS_SPEC} or jsonl:PATH.")
    return Task(name, tuple(problems), MathVerifier(), system_message, num_runs)


def _load_chains(spec: str, rest: str) -> list[Problem]:
    split, _, query = rest.partition("?")
    numbers = {"seed": 0}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in ("num", "min_ops", "max_ops", "seed") or not value.isdecimal():
            raise UserError(f"task {spec!r}: {key}={value} is not a whole number that chains take; write {CHAINS_SPEC}.")
        numbers[key] = int(value)
    missing = [key for key in ("num", "min_ops", "max_ops") if key not in numbers]
    if missing:
        raise UserError(f"task {spec!r} lacks {', '.join(missing)}; write {CHAINS_SPEC}.")
    return chain_problems(split=split, **numbers)
