"""A quick look at tasks in the middle of training: the curves of Figure 4 of the paper.

A probe asks the same problems every so many steps, judges the answers and keeps only the figures, within a budget of
problems, runs and tokens that it says when it is opened; `phi4r.evals.runner` is the evaluation that counts.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator

import numpy as np
from jax.sharding import Mesh

from phi4r.errors import UserError
from phi4r.evals.specs import load_tasks
from phi4r.evals.tasks import Task, check_prompts
from phi4r.hosts import is_primary
from phi4r.model.config import ModelConfig
from phi4r.sampling import Sampler, SamplerSettings, SamplingParams
from phi4r.sampling.generator import SamplerGenerator
from phi4r.text.chat import Chat
from phi4r.typing import Params
from phi4r.verifiers.pool import VerifierPool

_FIGURES = ("dev_accuracy", "dev_length", "dev_clipped_share")


@dataclasses.dataclass(frozen=True)
class ProbeSettings:
    """What is asked, how often, and what it may cost.

    Attributes:
      task: spec of the task (`phi4r.evals.specs`), or several, with blanks between them; empty for no probe.
      every: steps between two probes; the last step is always probed.
      sampler: fixed shapes of the sampler.
      temperature: 0 for greedy answers.
      num_problems: of each task, the first ones; 0 for all.
      num_runs: answers to each problem.
    """

    task: str
    every: int
    sampler: SamplerSettings
    temperature: float = 0.0
    num_problems: int = 0
    num_runs: int = 1

    def __post_init__(self):
        if self.every < 1 or self.num_runs < 1 or self.num_problems < 0:
            raise UserError(
                "a probe needs every >= 1, num_runs >= 1 and num_problems >= 0 (0 for all), not "
                f"{self.every}, {self.num_runs} and {self.num_problems}."
            )


class Probe:
    """Measures parameters on tasks; holds the compiled sampler and the verifier processes, never parameters."""

    def __init__(self, settings: ProbeSettings, config: ModelConfig, chat: Chat, *, mesh: Mesh | None = None):
        """Loads the tasks and starts the verifiers; close the probe after use.

        Raises:
          UserError: for a bad task, or prompts longer than `sampler.prompt_length`.
        """
        self.settings = settings
        self._tasks = load_tasks(settings.task)
        self._chat = chat
        for task in self._tasks:
            check_prompts(task, chat, prompt_length=settings.sampler.prompt_length)
        tokenizer = chat.tokenizer
        self._sampler = Sampler(
            config, settings.sampler, eos_ids=[tokenizer.eos_id], pad_id=tokenizer.pad_id, mesh=mesh
        )
        self._pool = VerifierPool()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `measure` returns."""
        tasks = [f"_{task.name}" for task in self._tasks] if len(self._tasks) > 1 else []
        return tuple(figure + of for of in ("", *tasks) for figure in _FIGURES)

    def budget(self) -> str:
        """Says in words what one look costs at most."""
        settings = self.settings
        asked = {task.name: self._num_problems(task) for task in self._tasks}
        num_answers = sum(asked.values()) * settings.num_runs
        tasks = ", ".join(f"{number} of {name}" for name, number in asked.items())
        return (
            f"probe every {settings.every} steps: {tasks}; {num_answers} answers of at most "
            f"{settings.sampler.max_response} tokens, {num_answers * settings.sampler.max_response:,} in all"
        )

    def due(self, step: int, num_steps: int) -> bool:
        """Whether to measure after `step` updates."""
        return step % self.settings.every == 0 or step == num_steps

    def measure(self, params: Params) -> dict[str, float]:
        """Returns accuracy, mean length in tokens, and the share of answers that were cut off.

        Of several tasks each has figures of its own, as `dev_accuracy_aime_2024`, and `dev_accuracy` and so on are
        their means, in which every task counts alike.
        """
        sampling = SamplingParams(temperature=self.settings.temperature)
        generator = SamplerGenerator(self._sampler, self._sampler.unroll(params), self._chat, sampling)
        figures = [self._measure(generator, task) for task in self._tasks]
        measured = dict(zip(_FIGURES, np.mean(figures, axis=0).tolist(), strict=True))
        if len(self._tasks) > 1:
            for task, values in zip(self._tasks, figures, strict=True):
                measured |= {f"{name}_{task.name}": value for name, value in zip(_FIGURES, values, strict=True)}
        return measured

    def close(self) -> None:
        """Ends the verifier processes."""
        self._pool.close()

    def _measure(self, generator: SamplerGenerator, task: Task) -> tuple[float, ...]:
        """Returns `_FIGURES` of one task."""
        num_runs = self.settings.num_runs
        problems = task.problems[: self._num_problems(task)]
        asked = [task.conversation(problem) for problem in problems]
        answers = [answer for group in generator(asked, num_samples=num_runs, seed=0) for answer in group]
        references = [problem.answer for problem in problems for _ in range(num_runs)]
        verdicts = self._pool.verify_all(task.verifier, [answer.text for answer in answers], references)
        return (
            float(np.mean([verdict.correct for verdict in verdicts])),
            float(np.mean([answer.num_tokens for answer in answers])),
            float(np.mean([answer.finish_reason == "length" for answer in answers])),
        )

    def _num_problems(self, task: Task) -> int:
        return min(self.settings.num_problems or len(task.problems), len(task.problems))


@contextlib.contextmanager
def open_probe(
    settings: ProbeSettings | None, config: ModelConfig, chat: Chat, *, mesh: Mesh | None = None
) -> Iterator[Probe | None]:
    """Gives a probe, and says what it costs, or None where no task is to be asked; it is closed in the end."""
    if settings is None or not settings.task.strip():
        yield None
        return
    probe = Probe(settings, config, chat, mesh=mesh)
    if is_primary():
        print(f"phi4r: {probe.budget()}", file=sys.stderr, flush=True)
    try:
        yield probe
    finally:
        probe.close()
