"""Where the rollouts of a run come from: in turn with training, or one step ahead of it.

    in turn      sample 1 | judge 1 | train 1 | sample 2 | judge 2 | train 2 | sample 3 | judge 3 | train 3
    one ahead    sample 1 | judge 1 | sample 2 | train 1 | sample 3 | train 2 | train 3
                                               | judge 2 |          | judge 3 |

One ahead, rollout k+1 is sampled before the updates of step k, and judged in a thread while they run. That pays where
verdicts take long (language models, proofs, programs that are run). Sampling itself is not put beside an update: a
device runs one program at a time, so the two would only make each other late, and several devices on which the programs
of two threads start in different orders wait for each other for ever.

So every rollout but the first of a run is of a policy that is one step old, and the objective has to correct for that:
its ratio compares with the log-probabilities of the sampler, or it has truncated importance weights (`GrpoSettings`).
A rollout is still a function of seed, step and the parameters of one known step. The one that is ahead goes into every
checkpoint, since the parameters that sampled it are in none, and a run that goes on is the uninterrupted one.
"""

import concurrent.futures
import dataclasses
import threading
import time
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from phi4r.errors import UserError
from phi4r.rl.problems import ProblemQueue
from phi4r.rl.rollout import Rollout, RolloutEngine
from phi4r.typing import Array, Params


class Rollouts:
    """The rollouts of a run in turn with training: each is of the policy that is trained on it. A context manager."""

    def __init__(self, engine: RolloutEngine, problems: ProblemQueue, *, seed: int):
        """Samples nothing yet.

        Args:
          engine: makes a rollout.
          problems: of the run; nobody else may take any.
          seed: of all sampling.
        """
        self._engine, self._problems, self._key = engine, problems, jax.random.key(seed)

    def next(self, step: int, policy: Params) -> Rollout:
        """Returns the rollout that `step` trains on; steps come in order.

        Args:
          step: from 1.
          policy: parameters before this step's updates, which may donate them at once.

        Raises:
          UserError: if a verifier cannot be loaded.
        """
        return self._engine(self._engine.sampler.unroll(policy), self._problems, self._key_of(step))

    def state(self) -> dict[str, Any]:
        """Returns what the next rollouts depend on besides parameters: JSON values and numpy arrays."""
        return {"problems": self._problems.state()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of an earlier process; a rollout that it was ahead with is left out."""
        self._problems.resume(state["problems"])

    def __enter__(self) -> "Rollouts":
        return self

    def __exit__(self, *exc: Any) -> None:
        """Has nothing to end."""

    def _key_of(self, step: int) -> Array:
        return jax.random.fold_in(self._key, step)


class PipelinedRollouts(Rollouts):
    """The rollouts of a run, each sampled in a thread before the updates of the step before it, and judged beside them.

    It adds to their metrics `policy_lag`, the updates between the policy that sampled and the one that is trained, and
    `wait_s`, the seconds that training stood still for the rollout: `sample_s` and what is left of `judge_s`.
    """

    def __init__(self, engine: RolloutEngine, problems: ProblemQueue, *, seed: int, num_steps: int):
        """Samples nothing yet.

        Args:
          engine: makes a rollout.
          problems: of the run; nobody else may take any.
          seed: of all sampling.
          num_steps: the last step, beyond which nothing is sampled.
        """
        super().__init__(engine, problems, seed=seed)
        self._num_steps = num_steps
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="rollout")
        self._watch = _Watch()
        self._ahead: concurrent.futures.Future[Rollout] | None = None
        self._waited_s = 0.0  # for the one that is ahead

    def next(self, step: int, policy: Params) -> Rollout:
        """Returns the rollout of `step` when that of the step after it is drawn too; see `Rollouts.next`."""
        jax.block_until_ready(policy)  # the update before ends here: what is waited for below is the rollout alone
        if self._ahead is None:
            self._begin(step, policy, lag=0)
        rollout = self._finished()
        metrics = {**rollout.metrics, "wait_s": self._waited_s}
        self._ahead, self._waited_s = None, 0.0
        if step < self._num_steps:
            self._begin(step + 1, policy, lag=self._engine.grpo.updates_per_rollout)
            started = time.perf_counter()
            self._watch.all_drawn.wait()
            self._waited_s = time.perf_counter() - started
        return dataclasses.replace(rollout, metrics=metrics)

    def state(self) -> dict[str, Any]:
        """Waits for the rollout that is ahead, and returns it with the problems that are left; see `Rollouts.state`."""
        ahead = {} if self._ahead is None else {"rollout": self._finished().state()}
        return {**super().state(), **ahead}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Takes over the state of an earlier process, and the rollout that it was ahead with."""
        super().resume(state)
        if "rollout" in state:
            self._ahead = concurrent.futures.Future()
            self._ahead.set_result(Rollout.from_state(state["rollout"]))

    def __exit__(self, *exc: Any) -> None:
        """Ends the rollout that is ahead, if there is one, within a burst or a judgement."""
        self._watch.ended.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _begin(self, step: int, policy: Params, *, lag: int) -> None:
        """Starts a rollout; its own copy of the parameters is on the way before any update can donate them."""
        unrolled, key = self._engine.sampler.unroll(policy), self._key_of(step)
        self._watch.all_drawn.clear()
        self._ahead = self._thread.submit(self._roll_out, unrolled, key, lag)

    def _roll_out(self, unrolled: Params, key: Array, lag: int) -> Rollout:
        """Runs in the thread.

        A thread has no mesh but the one that the sampler sets, so rewards are computed on one device beside the update.
        """
        try:
            rollout = self._engine(unrolled, self._problems, key, watcher=self._watch)
        finally:
            self._watch.drawn()  # nobody waits for one that failed
        return dataclasses.replace(rollout, metrics={**rollout.metrics, "policy_lag": float(lag)})

    def _finished(self) -> Rollout:
        """Waits for the rollout that is ahead; raises what ended it."""
        started = time.perf_counter()
        rollout = self._ahead.result()
        self._waited_s += time.perf_counter() - started
        return rollout


class _Watch:
    """What two threads tell each other about the rollout that is ahead."""

    def __init__(self):
        self.ended, self.all_drawn = threading.Event(), threading.Event()

    def check(self) -> None:
        if self.ended.is_set():
            raise concurrent.futures.CancelledError("the run has ended")

    def drawn(self) -> None:
        self.all_drawn.set()


def check_devices(mesh: Mesh, *, max_refills: int) -> None:
    """Refuses to sample ahead where programs of both threads with collectives could be under way together.

    Raises:
      UserError: for several hosts, and for refills on several devices.
    """
    if jax.process_count() > 1:
        raise UserError(
            "pipeline=True takes one host: the verdicts of several are gathered while an update runs, and each could "
            "wait for the other for ever; set pipeline=False."
        )
    if mesh.size > 1 and max_refills:
        raise UserError(
            f"pipeline=True with max_refills={max_refills} samples beside an update, and on {mesh.size} devices each "
            "could wait for the other for ever; set max_refills=0 or pipeline=False, or show the run one device."
        )
