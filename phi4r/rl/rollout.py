"""One rollout: problems in, judged and rewarded samples out.

The life of a step's 64 problems: rendered to prompt ids; G responses each, sampled on the device; each of them decoded
and judged on the host (is the answer right, is the thought well formed, how much is repeated) as soon as it ends, while
others still decode; rewarded on the device; and turned into advantages within each group. With `max_refills`, a group
whose rewards are all equal gives its place to another problem, for it teaches nothing: dynamic sampling (DAPO,
arXiv 2503.14476).
`phi4r.rl.records` writes everything about them to disk.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from phi4r.data.records import Problem
from phi4r.rl.advantages import group_advantages
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.judging import Judge, Judgement
from phi4r.rl.problems import ProblemQueue, StepProblems
from phi4r.rl.rewards import Rewards, compute_rewards
from phi4r.sampling import FINISH_STOP, Sampler, SamplerStats, Samples, SamplingParams
from phi4r.text.chat import Chat
from phi4r.typing import Array, Params
from phi4r.verifiers.verdict import Verdict

CHECK_EVERY_S = 0.2  # while verdicts are waited for


@dataclasses.dataclass(frozen=True)
class JudgedGroups:
    """Problems with G judged responses each; rows i*G..i*G+G-1 answer problem i."""

    problems: Sequence[Problem]
    samples: Samples
    texts: list[str]
    verdicts: list[Verdict]
    part_verdicts: list[Verdict]  # of the parts of the reward that verifiers score, in no order
    rewards: Rewards

    def choose(self, groups: Sequence[int]) -> "JudgedGroups":
        """Returns some of the groups, in the order given."""
        group_size = len(self.texts) // len(self.problems)
        rows = [group * group_size + sample for group in groups for sample in range(group_size)]
        samples, rewards = jax.tree.map(lambda x: x[np.asarray(rows, int)], (self.samples, self.rewards))
        texts, verdicts = [self.texts[row] for row in rows], [self.verdicts[row] for row in rows]
        return JudgedGroups([self.problems[i] for i in groups], samples, texts, verdicts, [], rewards)

    def mean_by_group(self, values: np.ndarray) -> np.ndarray:
        """Returns the mean of [B] values in each group; [P]."""
        return values.reshape(len(self.problems), -1).mean(axis=1)

    @property
    def zero_spread(self) -> np.ndarray:
        """Which groups have rewards that are all equal, and so no advantage; [P] bool."""
        totals = self.rewards.total.reshape(len(self.problems), -1)
        return totals.max(axis=1) == totals.min(axis=1)


@dataclasses.dataclass(frozen=True)
class Rollout:
    """A step's problems with G judged responses each; rows i*G..i*G+G-1 answer problem i.

    Attributes:
      problems: P of them.
      samples: B = P * G rows.
      texts: of the responses, without end tokens.
      verdicts: of the task's verifier.
      rewards: totals and parts.
      advantages: [B] float32.
      metrics: of everything that was sampled, what was dropped too.
      dropped: groups without spread that gave their places to others, or None. They are not trained on.
    """

    problems: Sequence[Problem]
    samples: Samples
    texts: list[str]
    verdicts: list[Verdict]
    rewards: Rewards
    advantages: np.ndarray
    metrics: dict[str, float]
    dropped: JudgedGroups | None = None

    def state(self) -> dict[str, Any]:
        """Returns the rollout as JSON values and numpy arrays."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Rollout":
        """Returns the rollout of which `state` made this."""
        dropped = state["dropped"] and JudgedGroups(**_groups_of(state["dropped"]), part_verdicts=[])
        return cls(**_groups_of(state), advantages=state["advantages"], metrics=state["metrics"], dropped=dropped)


class Watcher(Protocol):
    """Who follows a rollout from another thread."""

    def check(self) -> None:
        """Is called again and again; what it raises ends the rollout."""

    def drawn(self) -> None:
        """Is called when all responses are drawn and only verdicts are missing; once for each round of refills."""


@dataclasses.dataclass(frozen=True)
class RolloutEngine:
    """All that a rollout needs besides parameters, problems and a key.

    Attributes:
      sampler: fixed shapes and compiled programs.
      chat: renders prompts.
      judge: decodes and judges responses.
      grpo: group size, temperature and the convention of the advantages.
      num_problems: P, groups in a rollout.
      max_refills: how often, at most, groups without spread are replaced by further problems; 0 keeps them. Where
        spread is still lacking after that, groups without it fill the rollout: every batch has the same shape.
    """

    sampler: Sampler
    chat: Chat
    judge: Judge
    grpo: GrpoSettings
    num_problems: int
    max_refills: int = 0

    def __call__(
        self, unrolled: Params, problems: ProblemQueue, key: Array, *, watcher: Watcher | None = None
    ) -> Rollout:
        """Samples, judges and rewards a group of responses to every problem.

        Args:
          unrolled: `sampler.unroll(params)`.
          problems: from which the step's problems are taken; it learns how often each was solved.
          key: random key of this step.
          watcher: follows the rollout, if anyone does.
        """
        jax.block_until_ready(unrolled)  # the update before it ends here, so that the times below are the rollout's own
        seconds = {"sample_s": 0.0, "judge_s": 0.0}
        stats: list[SamplerStats] = []
        rounds: list[JudgedGroups] = []
        missing = self.num_problems
        while missing and len(rounds) <= self.max_refills:
            judged = self._answer(unrolled, problems.take(missing), key, seconds, watcher)
            stats.append(self.sampler.stats)
            problems.record(judged.problems, judged.mean_by_group(judged.rewards.accuracy).tolist())
            rounds.append(judged)
            missing -= len(judged.problems) - int(judged.zero_spread.sum()) * (self.max_refills > 0)
        everything = _join(rounds)
        kept, dropped = self._split(everything)
        metrics = {**rollout_metrics(everything), **problems.metrics(), **sampler_metrics(stats), **seconds}
        if self.max_refills:
            metrics |= {"dropped_groups": float(len(dropped)), "refills": float(len(rounds) - 1)}
        chosen = everything.choose(kept) if dropped else everything
        advantages, _ = group_advantages(
            chosen.rewards.total,
            group_size=self.grpo.group_size,
            std=self.grpo.group_std,
            eps=self.grpo.advantage_eps,
            baseline=self.grpo.baseline,
        )
        return Rollout(
            chosen.problems,
            chosen.samples,
            chosen.texts,
            chosen.verdicts,
            chosen.rewards,
            np.asarray(advantages),
            metrics,
            everything.choose(dropped) if dropped else None,
        )

    def _split(self, everything: JudgedGroups) -> tuple[list[int], list[int]]:
        """Returns which groups are trained on, in the order in which they were asked, and which are dropped."""
        useful, useless = np.flatnonzero(~everything.zero_spread), np.flatnonzero(everything.zero_spread)
        chosen = np.concatenate([useful, useless])[: self.num_problems]
        kept = sorted(chosen.tolist())
        return kept, sorted(set(range(len(everything.problems))) - set(kept))

    def _answer(
        self,
        unrolled: Params,
        asked: StepProblems,
        key: Array,
        seconds: dict[str, float],
        watcher: Watcher | None,
    ) -> JudgedGroups:
        """Samples and judges a group for each problem; adds to `seconds` what it took."""
        started = time.perf_counter()
        with self.judge.judging(asked.problems, self.grpo.group_size) as judging:
            samples = self.sampler.sample(
                unrolled,
                [self.chat.prompt_ids(self.judge.task.conversation(problem)) for problem in asked.problems],
                key,
                prompt_ids=asked.places,
                num_samples=self.grpo.group_size,
                sampling=SamplingParams(temperature=self.grpo.temperature),
                on_tokens=watcher and (lambda row, tokens: watcher.check()),
                on_finished=judging.finished,
            )
            sampled = time.perf_counter()
            if watcher is not None:
                watcher.drawn()
                while not judging.done(CHECK_EVERY_S):
                    watcher.check()
            judgements = judging.results()
        rewards = self._rewards(samples, judgements)
        seconds["sample_s"] += sampled - started
        seconds["judge_s"] += time.perf_counter() - sampled
        return JudgedGroups(
            asked.problems,
            samples,
            [judgement.text for judgement in judgements],
            [judgement.verdict for judgement in judgements],
            [verdict for judgement in judgements for verdict in judgement.scores.values()],
            rewards,
        )

    def _rewards(self, samples: Samples, judgements: Sequence[Judgement]) -> Rewards:
        """Computes the rewards of a round, padded to the rows of a whole one: another shape would compile anew."""
        complete = samples.finish_reason == FINISH_STOP
        correct = np.array([judgement.verdict.correct for judgement in judgements]) & complete
        names = judgements[0].scores
        columns = {
            "correct": correct,
            "lengths": samples.lengths,
            "complete": complete,
            "think_ok": np.array([judgement.think_ok for judgement in judgements]),
            "repetition": np.array([judgement.repetition for judgement in judgements], np.float32),
            "scores": {name: np.array([j.scores[name].score for j in judgements], np.float32) for name in names},
        }
        padding = self.num_problems * self.grpo.group_size - len(judgements)
        padded = jax.tree.map(lambda x: np.pad(x, (0, padding)), columns)
        rewards = compute_rewards(**padded, settings=self.judge.reward)
        return jax.tree.map(lambda x: np.asarray(x)[: len(judgements)], rewards)


def rollout_metrics(groups: JudgedGroups) -> dict[str, float]:
    """Returns what Figure 7 of the paper plots, and the health of the verifiers; nan means nothing to average."""
    samples, rewards = groups.samples, groups.rewards
    lengths, correct = samples.lengths, rewards.accuracy > 0
    statuses = [verdict.status for verdict in groups.verdicts]
    all_statuses = statuses + [verdict.status for verdict in groups.part_verdicts]

    def mean(values: np.ndarray) -> float:
        return float(np.mean(values)) if len(values) else float("nan")

    return {
        "reward": mean(rewards.total),
        "accuracy": mean(rewards.accuracy),
        **{f"reward_{name}": mean(values) for name, values in rewards.parts.items()},
        "length": mean(lengths),
        "length_min": float(lengths.min()),
        "length_max": float(lengths.max()),
        "length_correct": mean(lengths[correct]),
        "length_wrong": mean(lengths[~correct]),
        "clipped_share": mean(samples.finish_reason != FINISH_STOP),
        "zero_spread_share": mean(groups.zero_spread),
        "no_answer_share": statuses.count("no_answer") / len(statuses),
        "timeout_share": all_statuses.count("timeout") / len(all_statuses),
        "error_share": all_statuses.count("error") / len(all_statuses),
        "failed_share": (all_statuses.count("timeout") + all_statuses.count("error")) / len(all_statuses),
    }


def sampler_metrics(stats: Sequence[SamplerStats]) -> dict[str, float]:
    """Returns how well slots were used, the seconds that devices waited, and how many sequences lost their pages."""
    steps = max(sum(one.steps for one in stats), 1)
    return {
        "slot_share": sum(one.slot_share * one.steps for one in stats) / steps,
        "tokens_per_step": sum(one.tokens_per_step * one.steps for one in stats) / steps,
        "sample_host_s": sum(one.host_s for one in stats),
        "evictions": float(sum(one.evictions for one in stats)),
    }


def _groups_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that `Rollout` and `JudgedGroups` have in common from their JSON values and arrays."""
    return {
        "problems": [Problem(**problem) for problem in state["problems"]],
        "samples": Samples(**state["samples"]),
        "texts": state["texts"],
        "verdicts": [Verdict(**verdict) for verdict in state["verdicts"]],
        "rewards": Rewards(**state["rewards"]),
    }


def _join(rounds: Sequence[JudgedGroups]) -> JudgedGroups:
    """Puts the groups of several rounds one after the other."""
    if len(rounds) == 1:
        return rounds[0]
    samples, rewards = jax.tree.map(
        lambda *parts: np.concatenate(parts), *((judged.samples, judged.rewards) for judged in rounds)
    )
    return JudgedGroups(
        [problem for judged in rounds for problem in judged.problems],
        samples,
        [text for judged in rounds for text in judged.texts],
        [verdict for judged in rounds for verdict in judged.verdicts],
        [verdict for judged in rounds for verdict in judged.part_verdicts],
        rewards,
    )
