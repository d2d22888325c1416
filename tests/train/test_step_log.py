import io

import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.metrics.progress import Progress
from phi4r.metrics.throughput import CompileCounter
from phi4r.metrics.writer import MetricWriter, read_metrics
from phi4r.train.guards import Guards, GuardSettings
from phi4r.train.step_log import StepLog

WORK = {"num_tokens": 10, "flops": 1.0}
BATCH = {"tokens": np.zeros((1, 2))}


def metrics(loss, finite=1.0):
    return {"loss": loss, "grad_norm": 1.0, "param_norm": 1.0, "finite": finite}


@pytest.fixture
def log(tmp_path):
    with MetricWriter(tmp_path) as writer, Progress("test", total=5, stream=io.StringIO()) as progress:
        guards = Guards(GuardSettings(max_nonfinite_steps=2), tmp_path)
        yield StepLog(writer, progress, CompileCounter(), guards, log_every=2, num_steps=5)


def test_a_step_is_read_when_the_next_one_is_under_way(log, tmp_path):
    log.add(1, metrics(5.0), BATCH, **WORK)
    log.add(2, metrics(4.0), BATCH, **WORK)
    assert read_metrics(tmp_path) == []  # step 2 is a line, but it may still be running
    log.add(3, metrics(3.0), BATCH, **WORK)
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(2, 4.0)]


def test_every_other_step_and_the_last_are_written(log, tmp_path):
    for step in range(1, 6):
        log.add(step, metrics(float(step)), BATCH, extra={"reward": step / 10}, **WORK)
    log.flush()
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 4, 5]
    assert [line["reward"] for line in read_metrics(tmp_path)] == [0.2, 0.4, 0.5]
    assert log.written["loss"] == 5.0 and log.written["num_tokens"] == 10


def test_the_guards_see_every_step_also_those_that_are_not_written(log, tmp_path):
    log.add(1, metrics(float("nan"), finite=0.0), BATCH, **WORK)
    log.add(2, metrics(1.0), BATCH, **WORK)
    log.add(3, metrics(float("nan"), finite=0.0), BATCH, **WORK)
    assert [line["skipped"] for line in read_metrics(tmp_path)] == [1]
    log.add(4, metrics(float("nan"), finite=0.0), BATCH, **WORK)
    with pytest.raises(UserError, match=r"step 4 is not finite \(loss nan"):
        log.flush()


def test_flush_reads_the_step_under_way_once(log, tmp_path):
    log.add(1, metrics(1.0), BATCH, **WORK)
    log.add(2, metrics(2.0), BATCH, **WORK)
    log.flush()
    log.flush()
    assert [line["step"] for line in read_metrics(tmp_path)] == [2]
