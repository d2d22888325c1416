import jax
import pytest

from phi4r.errors import UserError
from phi4r.planning import worker
from phi4r.planning.plan import make_plan
from phi4r.planning.topologies import parse_topology


@pytest.fixture
def plan(tmp_path):
    """Plans a program for 8 virtual devices in this process, which has them."""

    def plan(experiment, program):
        return worker.plan_program(experiment.sections, "cpu:8", program, str(tmp_path / "cache"), str(tmp_path))

    return plan


def test_a_step_is_compiled_and_measured(sft, plan):
    result = plan(sft, "update")
    assert result["refusal"] is None and not result["cached"]
    assert result["sizes"]["argument"] == pytest.approx(sum(result["arguments"].values()), abs=100)
    # Forward, backward, and most of the forward again, of products and attention (whose blocks are whole squares here).
    assert 1.1 < result["flops"] / result["model_flops"] < 1.8
    assert result["flops_iteration"] == 0
    # Parameters are gathered over fsdp for every micro-batch, forward and backward.
    assert sum(result["traffic"]["by_kind"].values()) > 2 * result["arguments"]["parameters"]


def test_nothing_is_compiled_twice(sft, plan, monkeypatch):
    first = plan(sft, "update")

    def fail(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(worker, "_compile", fail)
    second = plan(sft, "update")
    assert second["cached"] and second["hash"] == first["hash"]
    assert {**second, "cached": False} == first
    with pytest.raises(AssertionError, match="compiled again"):
        plan(sft.replace({"num_microbatches": 1}), "update")


def test_a_rollout_is_counted_by_the_step_and_the_page(grpo, plan):
    result = plan(grpo, "decode")
    assert result["iterations"] == 8
    # 2 FLOPs for each of 32 rows and each parameter that multiplies; the embedding does not.
    products = 256 * 64 + 3 * (64 * 16 * (8 + 2 + 2 + 8) + 3 * 64 * 128)
    # Scores and values in 3 layers of 8 heads of 16: with the 8 columns of the burst, and 1.5 pages of 16 tokens.
    attention = 3 * 2 * 2 * 8 * 16 * (8 + 1.5 * 16)
    # Each of 8 devices joins what 4 pages add to 4 sequences: a weight and 16 values of each head, 1.5 times a layer.
    joins = 8 * 3 * 1.5 * 2 * 4 * 4 * 8 * (1 + 16)
    assert result["flops_iteration"] == 2 * 32 * products + 32 * attention + joins
    plan = make_plan(result, parse_topology("cpu:8"), None)
    assert plan.executed_flops == result["flops"] + 8 * result["flops_iteration"]
    assert any("35% of max_response" in note for note in plan.notes)
    # Of the arguments the cache is the one that the caller gives away: nothing of it is made anew.
    assert plan.memory["cache"] == 3 * 2 * 21 * 2 * 16 * 16 * 4 and plan.memory["results"] < plan.memory["cache"] / 10


def test_a_compiler_that_refuses_is_remembered(sft, plan, monkeypatch):
    def refuse(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Used 20.00G of 15.75G hbm.")

    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    assert "15.75G" in plan(sft, "update")["refusal"]
    monkeypatch.undo()
    again = plan(sft, "update")
    assert again["cached"] and "15.75G" in again["refusal"]


def test_the_programs_are_listed_and_another_is_refused(grpo, plan):
    assert plan(grpo, None) == ["unroll", "prefill", "decode", "reference", "update"]
    with pytest.raises(UserError, match="take one of unroll, prefill"):
        plan(grpo, "trian")
