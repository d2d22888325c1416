import pytest

from phi4r.planning.plan import make_plan
from phi4r.planning.topologies import GIB, parse_topology

RESULT = {
    "program": "update",
    "title": "SFT step",
    "hash": "0",
    "cached": False,
    "compile_s": 3.0,
    "refusal": None,
    "sizes": {"argument": 6 * GIB, "output": GIB, "temporary": 10 * GIB, "code": 0, "host": 0},
    "arguments": {"parameters": 2 * GIB, "optimizer": 3 * GIB},
    "temporaries": {"activations": 8 * GIB, "workspace": 2 * GIB},
    "buffers": [],
    "resident": {"reference": 4 * GIB},
    "resident_host": 0,
    "traffic": {"memory": 3352e9, "links": 900e9, "network": 200e9, "by_kind": {"all-gather": 900e9}},
    "traffic_iteration": {"memory": 0.0, "links": 0.0, "network": 0.0, "by_kind": {}},
    "calls": 1,
    "iterations": 0,
    "steps": 0,
    "num_tokens": 4000,
    "model_flops": 16 * 989e12,
    "flops": 32 * 989e12,
    "flops_iteration": 0,
    "notes": [],
}
H100 = parse_topology("h100:2x8")


def test_classes_of_memory_add_up_with_what_else_lies_there():
    plan = make_plan(RESULT, H100, None)
    assert plan.memory["padding"] == GIB  # the compiler's arguments are 6 GiB, their shapes 5
    assert plan.total == (5 + 1 + 10 + 1 + 4) * GIB
    assert plan.fits and plan.verdict == "fits"


def test_the_limit_can_be_given():
    assert make_plan(RESULT, H100, 21.0).fits
    assert not make_plan(RESULT, H100, 20.9).fits
    assert make_plan(RESULT, H100, 20.9).verdict == "does not fit"


def test_the_roofline_is_the_slowest_of_three():
    plan = make_plan(RESULT, H100, None)
    # 32 peaks of one device on 16 devices; memory at 3352 GB/s; links at 450 GB/s, the network at 50 GB/s.
    assert plan.roofline.compute_s == pytest.approx(2.0)
    assert plan.roofline.memory_s == pytest.approx(1.0)
    assert plan.roofline.interconnect_s == pytest.approx(4.0)
    assert (plan.roofline.call_s, plan.roofline.bound) == (pytest.approx(4.0), "interconnect")
    assert plan.tokens_per_s == pytest.approx(1000)
    assert plan.mfu == pytest.approx(1 / 4)  # 16 peaks in 4 s of 16 devices


def test_a_loop_on_data_is_counted_to_its_end():
    loop = {"memory": 1e9, "links": 2e9, "network": 0.0, "by_kind": {"all-reduce": 2e9}}
    plan = make_plan({**RESULT, "iterations": 100, "flops_iteration": 5, "traffic_iteration": loop}, H100, None)
    assert plan.executed_flops == 32 * 989e12 + 500
    assert plan.traffic["memory"] == 3352e9 + 100e9
    assert plan.traffic["by_kind"] == {"all-gather": 900e9, "all-reduce": 200e9}


def test_kernels_that_are_not_counted_are_at_least_what_the_mathematics_asks_for():
    links = {**RESULT["traffic"], "links": 0.0, "network": 0.0, "by_kind": {}}
    plan = make_plan({**RESULT, "flops": 15 * 989e12, "traffic": links}, H100, None)
    assert plan.executed_flops == 16 * 989e12
    assert plan.mfu == pytest.approx(1.0)


def test_a_refusal_for_want_of_memory_says_how_much():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 120.50G of 95.74G hbm. Exceeded by 24.8G."
    )
    plan = make_plan({**RESULT, "sizes": {}, "refusal": message, "traffic": None}, H100, None)
    assert plan.verdict == "does not fit"
    assert plan.total == int(120.5 * GIB) + 4 * GIB
    assert plan.roofline.memory_s is None


def test_another_refusal_is_not_one_of_memory():
    message = "RESOURCE_EXHAUSTED: scoped vmem limit exceeded by 3.1M"
    plan = make_plan({**RESULT, "sizes": {}, "refusal": message}, H100, None)
    assert (plan.verdict, plan.total) == ("does not compile", None)


def test_virtual_devices_have_no_roofline():
    plan = make_plan(RESULT, parse_topology("cpu:8"), None)
    assert plan.roofline.call_s is None and plan.mfu is None and plan.tokens_per_s is None
