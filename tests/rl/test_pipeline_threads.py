"""The two threads of a run that samples ahead: who waits for whom, and how either ends the other."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.pipeline import PipelinedRollouts
from phi4r.rl.problems import ProblemQueue
from phi4r.rl.rollout import Rollout


class FakeSampler:
    def unroll(self, policy):
        return policy


@dataclasses.dataclass
class FakeEngine:
    """An engine whose rollouts are made by a function of (how many there were with this one, watcher)."""

    roll_out: callable
    grpo: GrpoSettings = dataclasses.field(default_factory=GrpoSettings)
    sampler: FakeSampler = dataclasses.field(default_factory=FakeSampler)
    calls: int = 0

    def __call__(self, unrolled, problems, key, *, watcher):
        self.calls += 1
        return self.roll_out(self.calls, watcher)


def empty_rollout():
    return Rollout([], None, [], [], None, np.zeros(0), {"reward": 1.0})


def pipelined(roll_out, num_steps=3):
    return PipelinedRollouts(FakeEngine(roll_out), ProblemQueue([]), seed=0, num_steps=num_steps)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("rollout")]


@pytest.mark.parametrize("error", [UserError("no such verifier"), ZeroDivisionError()])
def test_what_ends_a_rollout_is_raised_where_it_is_asked_for(error):
    def fails_second(call, watcher):
        if call == 2:
            raise error
        return empty_rollout()

    with pipelined(fails_second) as source:
        assert source.next(1, {}).metrics["policy_lag"] == 0.0
        with pytest.raises(type(error)) as raised:
            source.next(2, {})
        assert raised.value is error
        with pytest.raises(type(error)):  # nor is it saved
            source.state()
    assert not threads()


def test_nothing_is_sampled_beyond_the_last_step():
    with pipelined(lambda *_: empty_rollout(), num_steps=2) as source:
        assert [source.next(step, {}).metrics["policy_lag"] for step in (1, 2)] == [0.0, 1.0]
        assert "rollout" not in source.state()
        assert source._engine.calls == 2


def test_training_waits_until_the_next_rollout_is_drawn_and_goes_on_while_it_is_judged():
    def takes_time(call, watcher):
        time.sleep(0.1)
        watcher.drawn()
        time.sleep(0.4)
        return empty_rollout()

    with pipelined(takes_time) as source:
        assert source.next(1, {}).metrics["wait_s"] >= 0.5
        assert not source._ahead.done()
        source._finished()  # as `state` does: this is waited for too
        assert source.next(2, {}).metrics["wait_s"] >= 0.5
        time.sleep(0.5)  # an update that takes longer
        assert 0.1 <= source.next(3, {}).metrics["wait_s"] < 0.3


def test_who_leaves_ends_the_rollout_that_is_ahead():
    began = threading.Event()

    def never_ends(call, watcher):
        while call > 1:
            watcher.drawn()
            began.set()
            watcher.check()
            time.sleep(0.01)
        return empty_rollout()

    with pytest.raises(KeyboardInterrupt), pipelined(never_ends) as source:
        source.next(1, {})
        assert began.wait(10.0)
        raise KeyboardInterrupt
    assert not threads()
