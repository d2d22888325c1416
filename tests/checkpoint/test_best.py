import pytest

from phi4r.checkpoint.best import BestStep, KeepBest, check_measured
from phi4r.errors import UserError


def test_a_metric_must_be_measured_unless_there_is_none():
    check_measured(None, (), "set probe.")
    check_measured(KeepBest("", "max"), (), "set probe.")
    check_measured(KeepBest("dev_accuracy", "max"), ("dev_accuracy",), "set probe.")
    with pytest.raises(UserError, match=r"keep_best.metric=dev_acuracy is not measured .*: dev_accuracy\); set probe"):
        check_measured(KeepBest("dev_acuracy", "max"), ("dev_accuracy",), "set probe.")


def test_without_a_metric_no_step_is_the_best():
    best = BestStep(KeepBest("", "max"))
    best.add(1, {"dev_accuracy": 0.5})
    assert not best.improves({"dev_accuracy": 0.9})
    assert best.step is None
