"""Task: problems together with how they are asked and how answers are judged.

The same object serves evaluation, reinforcement learning and decontamination. `phi4r.evals.specs` makes tasks from the
specs that configs and commands name them by.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.puzzles.puzzle import PuzzleProblems
from phi4r.text.chat import Chat
from phi4r.text.template import Message
from phi4r.verifiers.verdict import Verifier

_INSPECTED = 2000  # problems of a generated task that are looked at before it is used: all of an evaluation set


@dataclasses.dataclass(frozen=True)
class Task:
    """A benchmark, or a set of problems to learn from.

    Attributes:
      name: short, for tables and folders.
      problems: with distinct ids; a tuple, or made when they are looked at.
      verifier: (response, reference) -> Verdict; runs in a `VerifierPool`.
      system_message: put before every prompt, or None for the chat template's own.
      num_runs: how often the protocol of the task asks every problem.
      benchmark: name in the tables of benchmarks and puzzles; empty for problems of a user.
      title: in tables of reports.
      groups: keys of `Problem.meta` that results are broken down by.
      level: key of `Problem.meta` that says how hard a problem is; empty where nothing does.
      judge: how a language model judges what rules cannot (`phi4r.evals.judges.JUDGES`); empty for no judge.
      malformed: what was wrong with rows that could not be read, with file and line.
    """

    name: str
    problems: Sequence[Problem]
    verifier: Verifier
    system_message: str | None = None
    num_runs: int = 1
    benchmark: str = ""
    title: str = ""
    groups: tuple[str, ...] = ()
    level: str = ""
    judge: str = ""
    malformed: tuple[str, ...] = ()

    def __post_init__(self):
        if not len(self.problems):
            raise UserError(f"task {self.name} has no problems; give it at least one.")
        if isinstance(self.problems, PuzzleProblems):  # their ids are distinct
            return
        ((commonest, count),) = Counter(problem.id for problem in self.problems).most_common(1)
        if count > 1:
            raise UserError(f"task {self.name} has {count} problems with the id {commonest!r}; make the ids distinct.")

    def inspected(self) -> Sequence[Problem]:
        """Returns the problems to look at before the task is used: all, or the first of many generated ones."""
        return self.problems[:_INSPECTED] if isinstance(self.problems, PuzzleProblems) else self.problems

    def conversation(self, problem: Problem) -> list[Message]:
        """Returns the messages that ask `problem`."""
        system = [] if self.system_message is None else [{"role": "system", "content": self.system_message}]
        return [*system, {"role": "user", "content": problem.prompt}]

    def digest(self) -> str:
        """Returns a hash of ids, prompts and references: two tasks of one digest and length ask the same."""
        rows = [[problem.id, problem.prompt, problem.answer] for problem in self.inspected()]
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
    problems = task.inspected()
    lengths = [len(chat.prompt_ids(task.conversation(problem))) for problem in problems]
    longest = max(lengths)
    if longest > prompt_length:
        problem = problems[lengths.index(longest)]
        num_long = sum(length > prompt_length for length in lengths)
        raise UserError(
            f"{num_long} of {len(lengths)} prompts of task {task.name} have more than "
            f"sampler.prompt_length={prompt_length} tokens: problem {problem.id} has a prompt of {longest} tokens, the "
            f"most; raise sampler.prompt_length={prompt_length} to that, or leave long problems out."
        )
