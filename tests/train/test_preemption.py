import os
import signal
import threading

import pytest

from phi4r.train.preemption import Preempted, PreemptionNotice


@pytest.fixture
def outer():
    """What SIGTERM did before the loop: it is noted in this list."""
    calls = []
    before = signal.signal(signal.SIGTERM, lambda *_: calls.append("outer"))
    yield calls
    signal.signal(signal.SIGTERM, before)


def test_the_first_sigterm_is_a_notice_and_the_second_does_what_it_did_before(outer):
    with PreemptionNotice() as notice:
        assert not notice.received(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert notice.received(1) and notice.received(2)
        assert outer == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert outer == ["outer"]


def test_after_the_loop_sigterm_does_what_it_did_before(outer):
    with PreemptionNotice():
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    assert outer == ["outer"]


def test_keyboard_interrupts_stay_what_they_are():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with PreemptionNotice() as notice, pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not notice.received(1)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_loop_in_another_thread_runs_without_notices():
    results = []

    def loop():
        with PreemptionNotice() as notice:
            results.append(notice.received(1))

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    assert results == [False]


def test_the_message_says_where_the_run_goes_on():
    assert str(Preempted(7)).startswith("told to stop (SIGTERM): saved after step 7; the same command again")
