"""A quick look at a task in the middle of training: the curves of Figure 4 of the paper.

A probe asks a development set once, judges the answers and keeps only the figures; `phi4r.evals.runner` is the
evaluation that counts.
"""

import dataclasses

import numpy as np
from jax.sharding import Mesh

from phi4r.evals.tasks import load_task
from phi4r.model.config import ModelConfig
from phi4r.sampling import Sampler, SamplerSettings, SamplingParams
from phi4r.sampling.generator import SamplerGenerator
from phi4r.text.chat import Chat
from phi4r.typing import Params
from phi4r.verifiers.pool import VerifierPool

PROBE_METRICS = ("dev_accuracy", "dev_length", "dev_clipped_share")


@dataclasses.dataclass(frozen=True)
class ProbeSettings:
    """What is asked, and how often.

    Attributes:
      task: spec of the task (`phi4r.evals.tasks`).
      every: steps between two probes; the last step is always probed.
      sampler: fixed shapes of the sampler.
      temperature: 0 for greedy answers.
    """

    task: str
    every: int
    sampler: SamplerSettings
    temperature: float = 0.0


class Probe:
    """Measures parameters on a task; holds the compiled sampler and the verifier processes, never parameters."""

    def __init__(self, settings: ProbeSettings, config: ModelConfig, chat: Chat, *, mesh: Mesh | None = None):
        """Loads the task and starts the verifiers; close the probe after use."""
        self.settings = settings
        self._task = load_task(settings.task)
        self._chat = chat
        self._pool = VerifierPool()
        tokenizer = chat.tokenizer
        self._sampler = Sampler(
            config, settings.sampler, eos_ids=[tokenizer.eos_id], pad_id=tokenizer.pad_id, mesh=mesh
        )

    def due(self, step: int, num_steps: int) -> bool:
        """Whether to measure after `step` updates."""
        return step % self.settings.every == 0 or step == num_steps

    def measure(self, params: Params) -> dict[str, float]:
        """Returns accuracy, mean length in tokens, and the share of answers that were cut off."""
        sampling = SamplingParams(temperature=self.settings.temperature)
        generator = SamplerGenerator(self._sampler, self._sampler.unroll(params), self._chat, sampling)
        problems = self._task.problems
        asked = [self._task.conversation(problem) for problem in problems]
        answers = [group[0] for group in generator(asked, num_samples=1, seed=0)]
        verdicts = self._pool.verify_all(
            self._task.verifier, [answer.text for answer in answers], [problem.answer for problem in problems]
        )
        return {
            "dev_accuracy": float(np.mean([verdict.correct for verdict in verdicts])),
            "dev_length": float(np.mean([answer.num_tokens for answer in answers])),
            "dev_clipped_share": float(np.mean([answer.finish_reason == "length" for answer in answers])),
        }

    def close(self) -> None:
        """Ends the verifier processes."""
        self._pool.close()

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
