import pytest

from phi4r.planning.plan import make_plan
from phi4r.planning.search import promising, search
from phi4r.planning.topologies import GIB, parse_topology
from tests.planning.test_plan import RESULT

CPU = parse_topology("cpu:8")


@pytest.fixture
def too_large():
    """20 GiB where 16 are: 5 of arguments and padding, 8 of activations, 6 of workspace and results."""
    return make_plan(
        {**RESULT, "resident": {}, "temporaries": {"activations": 8 * GIB, "workspace": 5 * GIB}}, CPU, 12.0
    )


def test_the_cheapest_change_comes_first(sft, too_large):
    sft = sft.replace({"num_microbatches": 1, "data.global_batch": 16})
    changes = [change.settings for change in promising(sft, [too_large], CPU)]
    # From 20 GiB to 12: half the micro-batch leaves 13.5, within the margin of the estimate.
    assert changes[0] == {"num_microbatches": 2}
    assert {"num_microbatches": 4} in changes
    assert {"model.remat": "offload"} in changes
    assert all(sft.replace(change) for change in changes)


def test_a_lighter_policy_is_never_proposed(sft, too_large):
    changes = [change.settings for change in promising(sft, [too_large], CPU)]
    assert {change.get("model.remat") for change in changes} <= {None, "offload"}


def test_what_is_hopeless_is_not_compiled(sft):
    state_alone = make_plan({**RESULT, "resident": {"reference": 50 * GIB}}, CPU, 12.0)
    assert promising(sft, [state_alone], CPU) == []


def test_the_search_ends_with_the_first_that_fits(sft, too_large):
    asked = []

    def compile_one(experiment, name):
        asked.append(experiment.settings.num_microbatches)
        scale = 2 if len(asked) < 2 else 1  # the first candidate turns out too large
        temporaries = {"activations": scale * 4 * GIB, "workspace": scale * GIB}
        return make_plan({**RESULT, "resident": {}, "temporaries": temporaries}, CPU, 12.5)

    sft = sft.replace({"num_microbatches": 1, "data.global_batch": 16})
    change, spent = search(sft, [too_large], CPU, compile_one, 4)
    assert change is not None and spent == len(asked) == 2


def test_the_search_keeps_to_its_budget(sft, too_large):
    change, spent = search(sft, [too_large], CPU, lambda experiment, name: too_large, 3)
    assert (change, spent) == (None, 3)


@pytest.fixture
def large_cache():
    """A rollout that needs 17 GiB, 10 of them for the cache, where 12 are."""
    result = {
        **RESULT,
        "program": "decode",
        "arguments": {"decoding weights": 6 * GIB, "cache": 10 * GIB},
        "sizes": {**RESULT["sizes"], "argument": 16 * GIB, "output": 0},
        "temporaries": {"workspace": GIB},
        "resident": {},
    }
    return make_plan(result, CPU, 12.0)


def test_a_cache_that_is_too_large_is_divided_or_cut(grpo, large_cache):
    changes = [change.settings for change in promising(grpo, [large_cache], CPU)]
    # 7 GiB and the cache are at most 1.15 * 12: two thirds of it may stay. The slots need 32 * 64 tokens.
    assert changes[0] == {"sampler.tensor": 2}
    assert {"sampler.cache_tokens": 1024} in changes and {"sampler.num_slots": 16} in changes
    assert {"sampler.cache_tokens": 1536} not in changes
    # A part, of as many as share no layer, has to hold a sequence of 64 tokens.
    for change in changes:
        assert change.get("sampler.cache_tokens", 1024) >= 64 * 8 / change.get("sampler.tensor", 1)


def test_fewer_slots_than_devices_save_nothing(grpo, large_cache):
    grpo = grpo.replace({"sampler.num_slots": 8})
    assert not any(
        "sampler.num_slots" in c.settings for c in promising(grpo, [large_cache], CPU) if len(c.settings) == 1
    )


def test_only_tpus_are_told_to_offload_the_optimizer(sft, too_large):
    sft = sft.replace({"num_microbatches": 1, "data.global_batch": 16})
    changes = [change.settings for change in promising(sft, [too_large], parse_topology("v6e:2x4"))]
    assert {"optimizer.offload": True, "num_microbatches": 2} in changes
    assert not any("optimizer.offload" in c.settings for c in promising(sft, [too_large], parse_topology("h100:8")))
