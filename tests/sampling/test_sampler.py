"""What a sample does not depend on: slots, pages, neighbours, order, padding, devices."""

import jax
import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.metrics.throughput import CompileCounter
from phi4r.model.transformer import param_axes
from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, SamplingParams
from phi4r.sharding import MeshSettings, make_mesh, param_shardings

from .conftest import END_THINK, PROMPTS

KEY = jax.random.key(11)
G = 3


def responses(samples) -> list[list[int]]:
    """The drawn tokens of every row."""
    return [tokens[mask].tolist() for tokens, mask in zip(samples.tokens, samples.response_mask, strict=True)]


@pytest.fixture(scope="module")
def whole(sampler, unrolled):
    """All responses decoded together."""
    return sampler.sample(unrolled, PROMPTS, KEY, num_samples=G)


def assert_same(samples, expected):
    """The same tokens, and log-probabilities up to rounding."""
    np.testing.assert_array_equal(samples.tokens, expected.tokens)
    np.testing.assert_array_equal(samples.segment_ids, expected.segment_ids)
    np.testing.assert_array_equal(samples.response_mask, expected.response_mask)
    np.testing.assert_array_equal(samples.finish_reason, expected.finish_reason)
    np.testing.assert_allclose(samples.logprobs, expected.logprobs, atol=1e-5)


def test_the_samples_of_a_group_differ(whole):
    groups = [responses(whole)[i : i + G] for i in range(0, len(PROMPTS) * G, G)]
    assert all(len({tuple(r) for r in group}) > 1 for group in groups)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_slots": 1},
        {"num_slots": 4, "burst": 1},
        {"num_slots": 64, "page_size": 64, "burst": 32},
        {"num_slots": 7, "page_size": 3, "burst": 4},
    ],
    ids=str,
)
def test_slots_pages_and_bursts_change_nothing(policy, unrolled, whole, settings):
    assert_same(policy.sampler(**settings).sample(unrolled, PROMPTS, KEY, num_samples=G), whole)


def test_sequences_that_lose_their_pages_go_on_later_as_if_nothing_had_been(policy, unrolled, whole):
    sampler = policy.sampler(num_slots=9, cache_tokens=4 * 8)
    assert_same(sampler.sample(unrolled, PROMPTS, KEY, num_samples=G), whole)
    assert sampler.stats.evictions > 3


def test_long_prompts_are_prefilled_in_chunks_while_others_are_decoded(policy, unrolled, monkeypatch):
    prompts = [[4 + i % 15 for i in range(length)] for length in (40, 3, 64, 1, 17, 33)]
    whole = policy.sampler(prompt_length=64).sample(unrolled, prompts, KEY, num_samples=2)
    monkeypatch.setattr("phi4r.sampling.sampler.LONGEST_CHUNK", 16)
    monkeypatch.setattr("phi4r.sampling.sampler.PREFILL_TOKENS", 32)
    sampler = policy.sampler(prompt_length=64, num_slots=4)
    assert sampler.prefill_shape(4) == (2, 16)
    assert_same(sampler.sample(unrolled, prompts, KEY, num_samples=2), whole)


def test_a_single_refill_is_prefilled_by_a_small_program(policy, unrolled, whole, monkeypatch):
    sampler = policy.sampler(num_slots=16, burst=1)
    assert sampler.prefill_sizes(16) == [16, 2]
    rows, prefill = [], sampler.programs.prefill

    def count_rows(unrolled, pages, table, *arguments):
        rows.append(len(table))
        return prefill(unrolled, pages, table, *arguments)

    monkeypatch.setattr(sampler.programs, "prefill", count_rows)
    prompts = [prompt for prompt in PROMPTS for _ in range(G)]  # a group each, so that prompts wait for slots
    sampler.sample(unrolled, prompts, KEY)
    assert rows[0] == 16 and 2 in rows[1:-1] and set(rows) == {16, 2}


def test_slots_are_refilled_and_the_batch_shrinks_at_the_end(policy, unrolled, whole):
    """24 responses on 16 slots in bursts of one step: a step is wasted only where no sequence is left for a row."""
    sampler = policy.sampler(num_slots=16, burst=1)
    assert sampler.row_sizes(16) == [16, 8]
    sampler.sample(unrolled, PROMPTS, KEY, num_samples=G)
    # By hand: each row of a step belongs to the next response in line, in steps of 16 rows while 9 or more run.
    left, waiting, rows = [], sorted(enumerate(whole.lengths)), 0
    while left or waiting:
        while waiting and len(left) < 16:
            left.append(waiting.pop(0)[1])
        rows += 16 if len(left) > 8 else 8
        left = [length - 1 for length in left if length > 1]
    assert sampler.stats.slot_share == pytest.approx(whole.lengths.sum() / rows)


def test_finished_responses_are_told_while_others_are_drawn(policy, unrolled, whole):
    told = []
    sampler = policy.sampler(num_slots=4)
    samples = sampler.sample(unrolled, PROMPTS, KEY, num_samples=G, on_finished=lambda *finished: told.append(finished))
    assert sorted(row for row, *_ in told) == list(range(len(PROMPTS) * G))
    assert [row for row, *_ in told] != list(range(len(PROMPTS) * G))
    expected = responses(samples)
    for row, tokens, stopped in told:
        assert tokens.tolist() == expected[row] and stopped == (samples.finish_reason[row] == FINISH_STOP)


def test_a_found_stop_ends_a_response_where_it_is_found(policy, unrolled, whole):
    """Whatever the burst: the first 7 ends a response, and is cut off with all that follows."""

    def find_stop(tokens, old):
        return tokens.index(7, old) if 7 in tokens[old:] else None

    expected = [r[: r.index(7)] if 7 in r else r for r in responses(whole)]
    assert expected != responses(whole)
    for burst in (1, 4):
        samples = policy.sampler(burst=burst).sample(unrolled, PROMPTS, KEY, num_samples=G, find_stop=find_stop)
        assert responses(samples) == expected
        cut = np.array([len(a) < len(b) for a, b in zip(expected, responses(whole), strict=True)])
        assert np.all(samples.finish_reason[cut] == FINISH_STOP)
        assert np.all((samples.logprobs != 0).sum(axis=1) == samples.lengths)


def test_a_thought_that_is_too_long_is_closed_by_force(sampler, unrolled, whole):
    samples = sampler.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=SamplingParams(max_thought=4))
    for got, free in zip(responses(samples), responses(whole), strict=True):
        assert got[:4] == free[:4]
        if len(got) > 4 and END_THINK not in got[:4]:
            assert got[4] == END_THINK
    forced = [r for r in responses(samples) if len(r) > 5 and END_THINK not in r[:4]]
    assert len(forced) > 3 and any(r[5:].count(END_THINK) == 0 for r in forced)


def test_a_prompt_is_answered_alike_in_any_company_and_order(sampler, unrolled, whole):
    order = [6, 2, 5]
    samples = sampler.sample(unrolled, [PROMPTS[i] for i in order], KEY, prompt_ids=order, num_samples=G)
    expected = responses(whole)
    assert responses(samples) == [expected[i * G + sample] for i in order for sample in range(G)]


def test_fewer_samples_are_the_first_ones(sampler, unrolled, whole):
    expected = responses(whole)
    assert responses(sampler.sample(unrolled, PROMPTS, KEY)) == expected[::G]


def test_keys_follow_prompt_ids_and_calls(sampler, unrolled, whole):
    same = sampler.sample(unrolled, [PROMPTS[0]] * 2, KEY, prompt_ids=[4, 4], num_samples=G)
    assert responses(same)[:G] == responses(same)[G:]
    other = sampler.sample(unrolled, [PROMPTS[0]] * 2, KEY, prompt_ids=[0, 1], num_samples=G)
    assert responses(other)[:G] == responses(whole)[:G] != responses(other)[G:]
    again = sampler.sample(unrolled, PROMPTS, jax.random.fold_in(KEY, 1), num_samples=G)
    assert responses(again) != responses(whole)


def test_room_for_prompts_changes_nothing(policy, unrolled, whole):
    samples = policy.sampler(prompt_length=13).sample(unrolled, PROMPTS, KEY, num_samples=G)
    assert responses(samples) == responses(whole)
    np.testing.assert_allclose(samples.logprobs[:, 13:], whole.logprobs[:, 6:], atol=1e-5)


def test_a_lower_limit_cuts_the_same_responses_without_compiling(sampler, unrolled, whole):
    sampler.sample(unrolled, PROMPTS, KEY, num_samples=G)
    with CompileCounter() as compiles:
        samples = sampler.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=SamplingParams(max_tokens=4))
        sampler.sample(unrolled, PROMPTS[::-1], KEY, num_samples=G, sampling=SamplingParams(0.7, 5, 0.9, 0.05, 8))
    assert compiles.count == 0
    assert responses(samples) == [response[:4] for response in responses(whole)]
    cut = np.array([len(response) for response in responses(whole)]) > 4
    assert np.all(samples.finish_reason[cut] == FINISH_LENGTH)


def test_a_limit_beyond_the_room_is_the_room(sampler, unrolled, whole):
    samples = sampler.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=SamplingParams(max_tokens=1000))
    assert_same(samples, whole)


@pytest.mark.parametrize(
    ("mesh_settings", "tensor"),
    [
        (MeshSettings(fsdp=8), None),
        (MeshSettings(data=2, fsdp=2, tensor=2), None),
        (MeshSettings(fsdp=2, context=4), None),
        (MeshSettings(fsdp=8), 2),
        (MeshSettings(fsdp=4, tensor=2), 1),
    ],
    ids=str,
)
def test_eight_devices_sample_what_one_does(policy, whole, mesh_settings, tensor):
    mesh = make_mesh(mesh_settings, heads=policy.config.heads)
    params = jax.device_put(policy.params, param_shardings(mesh, param_axes(policy.config), policy.params))
    sampler = policy.sampler(mesh=mesh, tensor=tensor)
    assert_same(sampler.sample(sampler.unroll(params), PROMPTS, KEY, num_samples=G), whole)


def test_decoding_divides_a_layer_over_as_many_devices_as_asked_for(policy):
    sampler = policy.sampler(mesh=make_mesh(MeshSettings(fsdp=8)), tensor=2)
    down = sampler.unroll(policy.params)["layers_0"]["mlp"]["down"]
    assert down.sharding.shard_shape(down.shape) == (16, 12)
    with pytest.raises(UserError, match="take one of 1, 2"):
        policy.sampler(mesh=make_mesh(MeshSettings(fsdp=8)), tensor=3)


def test_fewer_prompts_than_devices_are_filled_up(policy, whole):
    mesh = make_mesh(MeshSettings(fsdp=8))
    sampler = policy.sampler(mesh=mesh)
    samples = sampler.sample(sampler.unroll(policy.params), PROMPTS[:3], KEY, num_samples=G)
    assert responses(samples) == responses(whole)[: 3 * G]


def test_a_cache_that_cannot_hold_one_sequence_is_refused(policy):
    with pytest.raises(UserError, match=r"cache_tokens=20 gives 5 pages .* 16 tokens needs 6; raise .* 24"):
        policy.sampler(cache_tokens=20)


def test_nothing_is_compiled_after_the_first_call(policy, unrolled):
    """However the batch shrinks: at the first call all responses end in the same burst, later ones one by one."""
    sampler = policy.sampler(num_slots=24, max_response=11)
    sampler.sample(unrolled, PROMPTS, KEY, num_samples=G, sampling=SamplingParams(max_tokens=1))
    with CompileCounter() as compiles:
        sampler.sample(unrolled, PROMPTS, KEY, num_samples=G)
        sampler.sample(unrolled, PROMPTS[::-1], KEY, num_samples=G, sampling=SamplingParams(0.7, 5, 0.9, 0.1, 9, 3))
    assert compiles.count == 0


@pytest.mark.parametrize(("prompt", "num_tokens"), [([], 0), ([1] * 7, 7)])
def test_a_prompt_that_does_not_fit_is_refused(sampler, unrolled, prompt, num_tokens):
    with pytest.raises(UserError, match=rf"prompt 1 has {num_tokens} tokens; .* prompt_length=6"):
        sampler.sample(unrolled, [[5], prompt], KEY)


def test_no_prompts_are_refused(sampler, unrolled):
    with pytest.raises(UserError, match="no prompts"):
        sampler.sample(unrolled, [], KEY)
