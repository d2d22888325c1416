"""One rollout: problems in, judged and rewarded samples out.

The life of a step's 64 problems: rendered to prompt ids; G responses each, sampled on the device; decoded and judged on
the host (is the answer right, is the thought well formed, how much is repeated); rewarded on the device; and turned
into advantages within each group. Everything about them is then written to disk by `save_rollout`.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from phi4r.data.records import Problem
from phi4r.data.sources import write_arrayrecord
from phi4r.evals.tasks import Task
from phi4r.hosts import gather, host_slice
from phi4r.rl.grpo import GrpoSettings, group_advantages
from phi4r.rl.problems import StepProblems
from phi4r.rl.repetition import repetition_reward
from phi4r.rl.rewards import Rewards, RewardSettings, compute_rewards
from phi4r.sampling import FINISH_STOP, Sampler, Samples, SamplingParams
from phi4r.sampling.generator import decode_responses
from phi4r.text.chat import Chat
from phi4r.text.thinking import think_format_ok_ids
from phi4r.typing import Array, Params
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.verdict import Verdict

# Asked where no answer can be extracted: (problem, response) -> Verdict. The paper uses a language model here.
FallbackVerifier = Callable[[Problem, str], Verdict]


@dataclasses.dataclass(frozen=True)
class Rollout:
    """A step's problems with G judged responses each; rows i*G..i*G+G-1 answer problem i."""

    problems: Sequence[Problem]
    samples: Samples
    texts: list[str]
    verdicts: list[Verdict]
    rewards: Rewards
    advantages: np.ndarray  # [B] float32
    metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class RolloutEngine:
    """All that a rollout needs besides parameters, problems and a key.

    Attributes:
      sampler: fixed shapes and compiled programs.
      chat: renders prompts and decodes responses.
      task: how problems are asked and judged.
      pool: the worker processes in which answers are judged.
      grpo: group size, temperature and the convention of the advantages.
      reward: constants of the reward.
      fallback: judges responses in which no answer could be found; None leaves them wrong.
    """

    sampler: Sampler
    chat: Chat
    task: Task
    pool: VerifierPool
    grpo: GrpoSettings
    reward: RewardSettings
    fallback: FallbackVerifier | None = None

    def __call__(self, unrolled: Params, asked: StepProblems, key: Array) -> Rollout:
        """Samples, judges and rewards a group of responses to every problem.

        Args:
          unrolled: `sampler.unroll(params)`.
          asked: the problems of this step and their places.
          key: random key of this step.
        """
        jax.block_until_ready(unrolled)  # the update before it ends here, so that the times below are the rollout's own
        started = time.perf_counter()
        samples = self.sampler.sample(
            unrolled,
            [self.chat.prompt_ids(self.task.conversation(problem)) for problem in asked.problems],
            key,
            prompt_ids=asked.places,
            num_samples=self.grpo.group_size,
            sampling=SamplingParams(temperature=self.grpo.temperature),
        )
        sampled = time.perf_counter()
        texts = decode_responses(samples, self.chat)
        complete = samples.finish_reason == FINISH_STOP
        verdicts = self._judge(asked.problems, texts, complete)
        rewards = compute_rewards(
            np.array([verdict.correct for verdict in verdicts]) & complete,
            samples.lengths,
            complete,
            np.array([self._think_ok(row) for row in _responses(samples)]),
            np.array([repetition_reward(text, self.reward.repetition) for text in texts], np.float32),
            self.reward,
        )
        rewards = jax.tree.map(np.asarray, rewards)
        advantages, zero_spread = group_advantages(
            rewards.total,
            group_size=self.grpo.group_size,
            std=self.grpo.group_std,
            eps=self.grpo.advantage_eps,
        )
        metrics = rollout_metrics(samples, rewards, verdicts)
        metrics["zero_spread_share"] = float(np.mean(zero_spread))
        metrics["sample_s"] = sampled - started
        metrics["judge_s"] = time.perf_counter() - sampled
        return Rollout(asked.problems, samples, texts, verdicts, rewards, np.asarray(advantages), metrics)

    def _judge(self, problems: Sequence[Problem], texts: Sequence[str], complete: np.ndarray) -> list[Verdict]:
        """Returns a verdict for every response, by the verifier or, where it finds no answer, by the fallback.

        The fallback may be slow and dear, so it is not asked about what was cut off, which is wrong whatever it says.
        """
        mine = host_slice(len(texts))  # one judge for each response: a deadline may pass on one host and not on another
        asked = [problem for problem in problems for _ in range(self.grpo.group_size)][mine]
        verdicts = self.pool.verify_all(self.task.verifier, texts[mine], [problem.answer for problem in asked])
        if self.fallback is not None:
            verdicts = [
                self.fallback(problem, text) if verdict.status == "no_answer" and whole else verdict
                for problem, text, verdict, whole in zip(asked, texts[mine], verdicts, complete[mine], strict=True)
            ]
        return [Verdict(**fields) for fields in gather([dataclasses.asdict(verdict) for verdict in verdicts])]

    def _think_ok(self, response: list[int]) -> bool:
        """Whether a response has one thought block, opened and closed once and in order."""
        tokenizer = self.chat.tokenizer
        return think_format_ok_ids(response, think_id=tokenizer.think_id, end_think_id=tokenizer.end_think_id)


def rollout_metrics(samples: Samples, rewards: Rewards, verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Returns what Figure 7 of the paper plots, and the health of the verifiers; nan means nothing to average."""
    lengths, correct = samples.lengths, rewards.accuracy > 0

    def mean(values: np.ndarray) -> float:
        return float(np.mean(values)) if len(values) else float("nan")

    return {
        "reward": mean(rewards.total),
        "accuracy": mean(rewards.accuracy),
        "reward_accuracy": mean(rewards.accuracy_scaled),
        "reward_repetition": mean(rewards.repetition),
        "length": mean(lengths),
        "length_min": float(lengths.min()),
        "length_max": float(lengths.max()),
        "length_correct": mean(lengths[correct]),
        "length_wrong": mean(lengths[~correct]),
        "clipped_share": mean(samples.finish_reason != FINISH_STOP),
        "no_answer_share": mean(np.array([verdict.status == "no_answer" for verdict in verdicts])),
        "timeout_share": mean(np.array([verdict.status == "timeout" for verdict in verdicts])),
    }


def save_rollout(path: pathlib.Path, rollout: Rollout) -> None:
    """Writes one JSON record for each response: text, ids, log-probs, verdict and the parts of its reward."""
    samples, rewards = rollout.samples, rollout.rewards
    group_size = len(rollout.texts) // len(rollout.problems)
    logprobs = [row[mask] for row, mask in zip(samples.logprobs, samples.response_mask, strict=True)]

    def record(row: int, response: list[int]) -> dict[str, Any]:
        problem, verdict = rollout.problems[row // group_size], rollout.verdicts[row]
        return {
            "problem": problem.id,
            "sample": row % group_size,
            "prompt": problem.prompt,
            "reference": problem.answer,
            "text": rollout.texts[row],
            "tokens": response,
            "logprobs": [round(float(x), 6) for x in logprobs[row]],
            "finish_reason": "stop" if samples.finish_reason[row] == FINISH_STOP else "length",
            "answer": verdict.answer,
            "status": verdict.status,
            "correct": bool(rewards.accuracy[row] > 0),
            "reward": float(rewards.total[row]),
            "reward_accuracy": float(rewards.accuracy_scaled[row]),
            "reward_repetition": float(rewards.repetition[row]),
            "advantage": float(rollout.advantages[row]),
        }

    write_arrayrecord(path, [record(row, response) for row, response in enumerate(_responses(samples))])


def _responses(samples: Samples) -> list[list[int]]:
    """Returns the drawn tokens of every row, the end token included."""
    return [row[mask].tolist() for row, mask in zip(samples.tokens, samples.response_mask, strict=True)]
