import io

import pytest

from phi4r.metrics import progress as progress_module
from phi4r.metrics.progress import Progress, duration


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(clock):
    stream = io.StringIO()
    with Progress("SFT", total=25, stream=stream) as progress:
        for step in range(1, 26):
            clock.now += 1.0
            progress.update(step, loss=2.0)
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["10/25", "20/25", "25/25"]


def test_the_line_has_stage_step_metrics_rate_and_time_left(clock):
    stream = io.StringIO()
    with Progress("SFT", total=101, stream=stream) as progress:
        clock.now = 500.0  # compilation: before the first update, not part of the rate
        progress.update(1, loss=3.0)
        clock.now = 504.0
        progress.update(3, loss=1.23456, tokens_per_s=104857.6)
    # 2 steps in 4 s are 0.5/s; 98 steps are left: 196 s
    assert stream.getvalue().splitlines()[-1] == "SFT 3/101 loss 1.235 tokens_per_s 104,858 | 0.5/s | ETA 3m16s"


def test_where_nobody_knows_the_end_no_time_is_left_to_tell(clock):
    stream = io.StringIO()
    with Progress("read", total=None, stream=stream) as progress:
        progress.update(0)
        clock.now += 2.0
        progress.update(500)
    assert stream.getvalue() == "read 500 | 250/s\n"


def test_a_resumed_stage_does_not_count_the_steps_before_it(clock):
    stream = io.StringIO()
    with Progress("SFT", total=1000, stream=stream) as progress:
        for step in (901, 911):
            clock.now += 10.0
            progress.update(step)
    assert stream.getvalue().splitlines()[-1] == "SFT 911/1000 | 1/s | ETA 1m29s"


def test_a_terminal_redraws_one_line(clock):
    stream = Terminal()
    with Progress("SFT", total=2, stream=stream) as progress:
        progress.update(1)
        clock.now = 0.05
        progress.update(2)  # too soon to redraw, so it is shown at the end
    assert stream.getvalue() == "\r\033[KSFT 1/2\r\033[KSFT 2/2 | 20/s | ETA 0s\n"


def test_a_stage_without_updates_prints_nothing():
    stream = io.StringIO()
    with Progress("SFT", total=2, stream=stream):
        pass
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (41.4, "41s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (7620, "2h07m"),
        (216000, "2d12h"),
    ],
)
def test_durations_show_their_two_largest_units(seconds, text):
    assert duration(seconds) == text
