"""Judging responses as they finish, while others still decode: text, format, repetition and verdicts, on the host.

A response that ends goes to a thread, which decodes it, looks at its format and repetition, and hands it to the worker
processes of the verifiers. Nothing waits for a verdict before `results`, and what goes wrong with one response is a
verdict that failed, never the end of the rollout.
"""

import concurrent.futures
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from phi4r.data.records import Problem
from phi4r.evals.tasks import Task
from phi4r.hosts import gather, host_slice
from phi4r.rl.repetition import repetition_reward
from phi4r.rl.reward_parts import part_verifiers
from phi4r.rl.rewards import RewardSettings
from phi4r.text.chat import Chat
from phi4r.text.thinking import think_format_ok_ids
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.verdict import Verdict, Verifier, failed

# Asked where no answer can be extracted: (problem, response) -> Verdict. The paper uses a language model here. It is
# asked in one thread, and has to come back by itself: nobody can stop it.
FallbackVerifier = Callable[[Problem, str], Verdict]

_log = logging.getLogger(__name__)


class Judgement(NamedTuple):
    """What was found out about one response."""

    text: str  # without the end token
    verdict: Verdict
    think_ok: bool  # one thought, opened and closed once and in order
    repetition: float  # R_rep
    scores: dict[str, Verdict]  # of the parts of the reward that verifiers score, by name


class Judge:
    """All that judging needs besides the responses; made once a run."""

    def __init__(
        self,
        chat: Chat,
        task: Task,
        pool: VerifierPool,
        reward: RewardSettings,
        fallback: FallbackVerifier | None = None,
    ):
        """Looks up the verifiers of the reward.

        Args:
          chat: decodes responses.
          task: whose verifier says what is right.
          pool: where verifiers run.
          reward: which parts there are, and what counts as a repetition.
          fallback: judges responses in which no answer could be found; None leaves them wrong.

        Raises:
          UserError: if a verifier of the reward cannot be used, or a problem lacks what it compares with.
        """
        self.tokenizer, self.task, self.pool, self.fallback = chat.tokenizer, task, pool, fallback
        self.reward = reward
        verifiers = part_verifiers(reward.parts, task.inspected())
        self.parts: dict[str, tuple[Verifier, Callable[[Problem], str]]] = {
            part.name: (verifiers[part.name], part.reference_of) for part in reward.parts if part.name in verifiers
        }
        self.think_ids = {"think_id": self.tokenizer.think_id, "end_think_id": self.tokenizer.end_think_id}

    def judging(self, problems: Sequence[Problem], group_size: int) -> "Judging":
        """Opens the judging of `group_size` responses to each problem; use it as a context manager."""
        return Judging(self, [problem for problem in problems for _ in range(group_size)])


class Judging:
    """The judging of one batch of responses.

    Every host decodes every response, and judges its own part: a deadline may pass on one host and not on another.
    """

    def __init__(self, judge: Judge, asked: Sequence[Problem]):
        """Starts the threads; `asked` is the problem of each row."""
        self._judge, self._asked = judge, asked
        self._mine = range(len(asked))[host_slice(len(asked))]
        self._rows: dict[int, concurrent.futures.Future] = {}
        self._reading = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="judging")
        self._falling_back = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="fallback")

    def __enter__(self) -> "Judging":
        return self

    def __exit__(self, *unused) -> None:
        for threads in (self._reading, self._falling_back):
            threads.shutdown(wait=True, cancel_futures=True)

    def finished(self, row: int, tokens: np.ndarray, stopped: bool) -> None:
        """Takes a response that has ended and returns at once; for `on_finished` of the sampler.

        Args:
          row: its place in the batch.
          tokens: [n] int32, what was drawn, the end token included.
          stopped: whether it ended by itself, and was not cut off.
        """
        self._rows[row] = self._reading.submit(self._read, row, tokens, stopped)

    def done(self, timeout_s: float) -> bool:
        """Returns whether `results` has nothing left to wait for; waits for that, but not much longer than given."""
        if concurrent.futures.wait(self._rows.values(), timeout_s).not_done:
            return False
        read = [future.result() for future in self._rows.values() if future.exception() is None]
        return not concurrent.futures.wait([future for row in read for future in row.futures], timeout_s).not_done

    def results(self) -> list[Judgement]:
        """Waits for all verdicts and returns the judgements in the order of rows, the same on every host.

        Raises:
          UserError: if a verifier cannot be loaded.
        """
        read = [self._rows[row].result() for row in range(len(self._asked))]
        own = [
            {
                "verdict": dataclasses.asdict(read[row].verdict.result()),
                "think_ok": read[row].think_ok,
                "repetition": read[row].repetition,
                "scores": {name: dataclasses.asdict(score.result()) for name, score in read[row].scores.items()},
            }
            for row in self._mine
        ]
        return [_judgement(row.text, found) for row, found in zip(read, gather(own), strict=True)]

    def _read(self, row: int, tokens: np.ndarray, stopped: bool) -> "_Read":
        """Decodes a response and, where this host judges it, asks the verifiers."""
        judge, problem, ids = self._judge, self._asked[row], tokens.tolist()
        text = judge.tokenizer.decode(ids[:-1] if ids[-1:] == [judge.tokenizer.eos_id] else ids)
        if row not in self._mine:
            return _Read(text)
        verdict = judge.pool.submit(judge.task.verifier, text, problem.answer)
        if judge.fallback is not None and stopped:  # what was cut off is wrong whatever a slow and dear judge says
            verdict = self._falling_back.submit(self._or_fallback, verdict, problem, text)
        scores = {
            name: judge.pool.submit(verifier, text, reference_of(problem))
            for name, (verifier, reference_of) in judge.parts.items()
        }
        think_ok = think_format_ok_ids(ids, **judge.think_ids)
        return _Read(text, verdict, think_ok, repetition_reward(text, judge.reward.repetition), scores)

    def _or_fallback(self, verdict: concurrent.futures.Future, problem: Problem, text: str) -> Verdict:
        """Returns the verdict, or the fallback's where the verifier found no answer."""
        judged = verdict.result()
        if judged.status != "no_answer":
            return judged
        try:
            judged = self._judge.fallback(problem, text)
        except Exception:  # whatever the fallback raises costs one verdict, and not the rollout
            _log.warning("Not judged: the fallback failed on problem %s", problem.id, exc_info=True)
            return failed("error")
        if not isinstance(judged, Verdict):
            _log.warning("Not judged: the fallback returned %.80r for problem %s, no Verdict", judged, problem.id)
            return failed("error")
        return judged


class _Read(NamedTuple):
    """A response whose verdicts are still to come; only its text where another host judges it."""

    text: str
    verdict: concurrent.futures.Future | None = None
    think_ok: bool | None = None
    repetition: float | None = None
    scores: Mapping[str, concurrent.futures.Future] = {}

    @property
    def futures(self) -> list[concurrent.futures.Future]:
        """All that is still to come."""
        return [*self.scores.values()] if self.verdict is None else [self.verdict, *self.scores.values()]


def _judgement(text: str, found: Mapping[str, Any]) -> Judgement:
    """Puts together what was gathered from the hosts."""
    scores = {name: Verdict(**score) for name, score in found["scores"].items()}
    return Judgement(text, Verdict(**found["verdict"]), found["think_ok"], found["repetition"], scores)
