"""What is planned is what is run: the loops' own values go through the planned programs, with the planned layouts."""

import dataclasses

import jax
import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.model.inputs import make_token_batch
from phi4r.model.transformer import init_params
from phi4r.planning.grpo_programs import EOS_IDS, PAD_ID
from phi4r.planning.program import shard_bytes
from phi4r.planning.programs import make_programs
from phi4r.sampling import Sampler
from phi4r.sharding import make_mesh
from phi4r.train.optim import make_optimizer
from phi4r.train.setup import rows_to_mesh
from phi4r.train.state import create_state


def params_like(planned, config):
    shardings = jax.tree.map(lambda leaf: leaf.sharding, planned)
    return jax.jit(lambda key: init_params(config, key), out_shardings=shardings)(jax.random.key(0))


def real_state(program, config, settings):
    params = params_like(program.arguments[0].params, config)
    return create_state(params, make_optimizer(settings.optimizer, num_steps=settings.num_steps)[0])


def same_layout(planned, real) -> bool:
    def same(leaf, array) -> bool:
        return (leaf.shape, leaf.dtype) == (array.shape, array.dtype) and leaf.sharding.is_equivalent_to(
            array.sharding, array.ndim
        )

    return all(jax.tree.leaves(jax.tree.map(same, planned, real)))


def test_the_planned_step_takes_the_state_and_rows_of_the_loop(sft):
    config, programs = make_programs(sft, jax.devices())
    program = programs["update"]()
    with jax.set_mesh(program.mesh):
        state = real_state(program, config, sft.settings)
        tokens = np.ones((8, 64), np.int32)
        batch = rows_to_mesh(make_token_batch(tokens, tokens, tokens.astype(bool)), program.mesh)
        assert same_layout(program.arguments, (state, batch))
        planned = program.function.lower(*program.arguments).as_text()
        assert planned == program.function.lower(state, batch).as_text()


def test_sft_counts_what_is_in_memory_on_a_device(sft):
    config, programs = make_programs(sft, jax.devices())
    program = programs["update"]()
    assert list(programs) == ["update"]
    # Adam's moments are twice the parameters, and two counters; 4 x 2 devices share all but the scales of norms.
    parameters = shard_bytes(program.memory["parameters"])
    scales = (2 * config.num_layers + 1) * config.embed_dim
    assert parameters == 4 * ((config.num_params - scales) // 8 + scales)
    assert shard_bytes(program.memory["optimizer"]) - 2 * parameters in (4, 8)
    assert shard_bytes(program.memory["batch"]) == 5 * 4 * 8 * 64 // 4


def test_grpo_has_its_programs_and_what_they_leave_in_memory(grpo):
    config, programs = make_programs(grpo, jax.devices())
    assert list(programs) == ["unroll", "prefill", "decode", "reference", "update"]
    made = {name: make() for name, make in programs.items()}
    decode = made["decode"]
    # 32 slots on 8 devices; pages of 16 for sequences of 64, one more for each, and the page that is nobody's.
    _, pages, slots, _ = decode.arguments
    assert slots.tokens.shape == (32,) and slots.table.shape == (32, 4)
    assert pages.keys[0].shape == (8 * (4 * 5 + 1), 2, 16, 16)
    assert shard_bytes(decode.memory["cache"]) == 3 * 2 * 21 * 2 * 16 * 16 * 4
    # Bursts of 8 steps; a response is taken to have 35% of 48 tokens, a sequence 16 and half of them in pages.
    assert (decode.num_tokens, decode.iterations, decode.steps) == (32 * 8, 8, 8)
    assert decode.visits == (16 + 8) / 16 and decode.calls == 3
    assert decode.page_share == 32 * (16 + 8) / (8 * 21 * 16)
    # All 16 prompts, the whole of each: nothing of it is in pages before.
    prefill = made["prefill"]
    assert prefill.arguments[4].shape == (32, 16) and (prefill.calls, prefill.iterations) == (1, 0)
    assert set(decode.resident) == {"parameters", "optimizer", "reference"}
    assert set(made["update"].resident) == {"reference"}
    assert set(made["unroll"].resident) == {"optimizer", "reference"}
    # Weights for decoding are whole on every device of fsdp.
    assert shard_bytes(decode.memory["decoding weights"]) == 4 * config.num_params


def test_a_run_that_samples_ahead_keeps_the_weights_for_decoding_while_it_trains(grpo):
    ahead = dataclasses.replace(grpo, settings=dataclasses.replace(grpo.settings, pipeline=True))
    _, programs = make_programs(ahead, jax.devices())
    assert set(programs["update"]().resident) == {"reference", "decoding weights"}
    assert set(programs["reference"]().resident) == {"parameters", "optimizer", "decoding weights"}


def test_the_planned_rollout_takes_what_the_sampler_gives_its_programs(grpo):
    config, programs = make_programs(grpo, jax.devices())
    settings = grpo.settings
    mesh = make_mesh(settings.mesh, heads=config.heads)
    sampler = Sampler(config, settings.sampler, eos_ids=EOS_IDS, pad_id=PAD_ID, mesh=mesh)
    seen = {}

    class Stop(Exception):
        pass

    def prefill(unrolled, pages, *arguments):
        seen["prefill"] = unrolled, pages, *arguments
        return pages

    def burst(*arguments):
        seen["decode"] = arguments
        raise Stop

    functions = {"prefill": sampler.programs.prefill, "decode": sampler.programs.burst}
    sampler.programs.prefill, sampler.programs.burst = prefill, burst
    planned = {name: programs[name]() for name in functions}
    unrolled = planned["decode"].arguments[0]  # not touched here
    with pytest.raises(Stop):
        prompts = [[1] * 16] * settings.problems_per_step
        sampler.sample(unrolled, prompts, jax.random.key(0), num_samples=settings.grpo.group_size)
    for name, program in planned.items():
        assert same_layout(program.arguments[1:3], seen[name][1:3])
        with jax.set_mesh(program.mesh):
            text = program.function.lower(*program.arguments).as_text()
            assert text == functions[name].lower(*seen[name]).as_text()


def test_a_cache_that_is_too_small_for_all_slots_lets_some_wait(grpo):
    _, programs = make_programs(grpo.replace({"sampler.cache_tokens": 8 * 6 * 16}), jax.devices())
    decode = programs["decode"]()
    assert shard_bytes(decode.memory["cache"]) == 3 * 2 * 6 * 2 * 16 * 16 * 4
    assert decode.num_tokens == 8 * 6 * 16 // (16 + 8) * 8  # 32, as in all slots: they have only 24 tokens in the mean
    with pytest.raises(UserError, match="needs 6; raise it to 768"):
        make_programs(grpo.replace({"sampler.cache_tokens": 8 * 5 * 16}), jax.devices())


def test_a_cache_in_int8_takes_a_byte_a_number_and_a_scale_a_vector(grpo):
    """The pool of the test above with floats: vectors of 16 numbers and 4 bytes in place of 16 times 4 bytes."""
    _, programs = make_programs(grpo.replace({"sampler.cache": "int8"}), jax.devices())
    assert shard_bytes(programs["decode"]().memory["cache"]) == 3 * 2 * 21 * 2 * 16 * (16 + 4)


def test_every_grpo_program_can_be_traced(grpo):
    _, programs = make_programs(grpo, jax.devices())
    for make in programs.values():
        program = make()
        with jax.set_mesh(program.mesh):
            traced = program.function.trace(*program.arguments, **program.static)
        assert traced.jaxpr.eqns


def test_an_offloaded_optimizer_lies_on_the_host(sft):
    _, programs = make_programs(sft, jax.devices())
    _, offloaded = make_programs(sft.replace({"optimizer.offload": True}), jax.devices())
    optimizer = offloaded["update"]().memory["optimizer"]
    assert shard_bytes(optimizer) <= 8  # the counters
    moved = shard_bytes(optimizer, on_host=True)
    assert shard_bytes(programs["update"]().memory["optimizer"]) - moved in (4, 8)


def test_adapters_leave_one_base_in_memory(sft, grpo):
    lora = {"lora": {"rank": 4, "quantize_base": "int8"}}
    config, programs = make_programs(sft.replace(lora), jax.devices())
    update = programs["update"]()
    adapters, base = (shard_bytes(update.memory[kind]) for kind in ("parameters", "frozen base"))
    assert shard_bytes(update.memory["optimizer"]) - 2 * adapters in (4, 8)
    # Adapters and base lie over 8 devices; int8 takes less than 0.6 of float32 here, where half is the embeddings.
    assert adapters < base < 0.6 * 4 * config.num_params / 8
    _, programs = make_programs(grpo.replace(lora), jax.devices())
    for make in programs.values():
        program = make()
        assert [*program.memory, *program.resident].count("frozen base") == 1
        assert "reference" not in program.memory and "reference" not in program.resident
        with jax.set_mesh(program.mesh):
            traced = program.function.trace(*program.arguments, **program.static)
        assert traced.jaxpr.eqns


def test_model_flops_are_those_of_training(sft):
    config, programs = make_programs(sft, jax.devices())
    assert programs["update"]().model_flops == config.train_flops(8 * 64, 8 * 64 * 65 // 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mesh.fsdp": 3}, "does not fit 8 devices"),
        ({"data.global_batch": 6}, "multiple of 8"),
        ({"mesh.fsdp": 2, "mesh.tensor": 1, "mesh.context": 4, "data.row_length": 60}, "multiple of 8"),
        ({"data.row_length": 512}, "made for 256 positions"),
    ],
)
def test_sizes_that_do_not_divide_are_refused_before_anything_is_traced(sft, changes, message):
    with pytest.raises(UserError, match=message):
        make_programs(sft.replace(changes), jax.devices())


def test_without_a_model_folder_the_shape_is_phi4s(sft):
    config, _ = make_programs(sft.replace({"init_from": "nowhere"}), jax.devices())
    assert config.num_params == 14_659_507_200
