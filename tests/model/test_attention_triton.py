import functools
import importlib
import importlib.util
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval
from jax.sharding import AbstractMesh

from phi4r.errors import UserError
from phi4r.model.attention import Tokens, attend, triton, visible
from phi4r.model.attention.dense import attend_dense
from phi4r.model.attention.triton import attend_triton
from phi4r.model.attention.triton_kernels import NEVER, Tile, Tiles
from phi4r.model.attention.triton_ranges import key_ranges, query_ranges
from phi4r.model.remat import ATTENTION_RESULTS
from phi4r.sharding import MeshSettings, make_mesh, zigzag_order

LENGTH, KV_HEADS = 56, 2
# (segment, tokens) of each run: padding right and between segments; left and right; none, with one long segment.
ROWS = (
    ((1, 20), (0, 3), (2, 17), (3, 9), (0, 7)),
    ((0, 18), (7, 30), (0, 8)),
    ((2, 5), (1, 51)),
    ((0, 56),),
)
SMALL = Tiles(forward=Tile(16, 16, 4, 2), dq=Tile(16, 32, 4, 2), dkv=Tile(32, 16, 4, 2))


def tokens_of(rows, stride=1):
    """Tokens of packed rows; positions rise by `stride`, those of padding are 0."""
    segments = [[segment for segment, count in runs for _ in range(count)] for runs in rows]
    positions = [[t * stride * (segment > 0) for segment, count in runs for t in range(count)] for runs in rows]
    return Tokens(jnp.asarray(segments, jnp.int32), jnp.asarray(positions, jnp.int32))


def random_inputs(length=LENGTH, queries=4, head_dim=16, rows=4, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(rows, length, KV_HEADS, queries, head_dim)] + [(rows, KV_HEADS, length, head_dim)] * 2
    return [jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, shapes, strict=True)]


def output_and_gradients(function, inputs, where, **kwargs):
    """Returns the output at real positions, and the gradients of a weighted sum of it."""
    real = (where.segment_ids > 0)[:, :, None, None, None]
    target = jax.random.normal(jax.random.key(1), inputs[0].shape)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(inputs, where):
        out = jnp.where(real, function(*inputs, where, where, **kwargs), 0.0).astype(jnp.float32)
        return jnp.sum(out * target), out

    (_, out), grads = loss(inputs, where)
    return [np.asarray(x, np.float32) for x in (out, *grads)]


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks in a short row."""
    monkeypatch.setattr(triton, "choose_tiles", lambda *_: SMALL)


@pytest.mark.parametrize(("queries", "head_dim", "window", "stride"), [(4, 16, None, 1), (1, 96, 7, 1), (3, 8, 10, 3)])
def test_packed_rows_and_gradients_are_those_of_the_dense_backend(small_blocks, queries, head_dim, window, stride):
    inputs, where = random_inputs(queries=queries, head_dim=head_dim), tokens_of(ROWS, stride)
    expected = output_and_gradients(attend_dense, inputs, where, window=window)
    ours = output_and_gradients(attend_triton, inputs, where, window=window)
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-6 * max(1, np.abs(theirs).max()), rtol=0)


@pytest.mark.parametrize("length", [1, 13])
def test_rows_shorter_than_a_block_are_those_of_the_dense_backend(length):
    inputs, where = random_inputs(length, rows=1), tokens_of((((5, length),),))
    ours, expected = (jax.jit(function)(*inputs, where, where) for function in (attend_triton, attend_dense))
    np.testing.assert_allclose(ours, expected, atol=2e-6, rtol=0)


def test_bfloat16_differs_from_dense_float32_by_its_rounding_alone(small_blocks):
    inputs, where = random_inputs(queries=2, head_dim=128, dtype=jnp.bfloat16), tokens_of(ROWS)
    ours = output_and_gradients(attend_triton, inputs, where)
    exact = output_and_gradients(attend_dense, [x.astype(jnp.float32) for x in inputs], where)
    for mine, expected in zip(ours, exact, strict=True):
        np.testing.assert_allclose(mine, expected, atol=2**-7 * np.abs(expected).max(), rtol=0)
    assert jax.eval_shape(attend_triton, *inputs, where, where).dtype == jnp.bfloat16


@pytest.mark.parametrize(("context", "fsdp"), [(2, 2), (4, 1)])
def test_parts_of_rows_on_several_devices_are_those_of_whole_rows(small_blocks, monkeypatch, context, fsdp):
    backends = importlib.import_module("phi4r.model.attention.attend").BACKENDS
    monkeypatch.setitem(backends, "triton", attend_triton)
    rows = (((1, 23), (0, 2), (2, 31), (0, 8)), ((0, 9), (4, 55)))
    inputs, where = random_inputs(64, rows=2), tokens_of(rows)
    expected = output_and_gradients(attend_dense, inputs, where)
    order = zigzag_order(64, context)
    target = jax.random.normal(jax.random.key(1), inputs[0].shape)[:, order]
    zigzag = [inputs[0][:, order], *(x[:, :, order] for x in inputs[1:])]
    placed = Tokens(*(x[:, order] for x in where))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(inputs):
        out = attend(*inputs, placed, placed, backend="triton")
        out = jnp.where((placed.segment_ids > 0)[:, :, None, None, None], out, 0.0)
        return jnp.sum(out * target), out

    mesh = make_mesh(MeshSettings(fsdp=fsdp, context=context), jax.devices()[: context * fsdp])
    with jax.set_mesh(mesh):
        (_, out), grads = loss(zigzag)
    back = order.argsort()
    ours = [out[:, back], grads[0][:, back], grads[1][:, :, back], grads[2][:, :, back]]
    for mine, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=5e-6, rtol=0)


def test_a_row_of_padding_alone_gives_zeros_and_no_nan():
    inputs, where = random_inputs(16, rows=1), tokens_of((((0, 16),),))
    loss = jax.value_and_grad(lambda inputs: jnp.sum(attend_triton(*inputs, where, where) + 1.0))
    value, grads = jax.jit(loss)(inputs)
    assert value == inputs[0].size
    for grad in grads:
        np.testing.assert_array_equal(grad, 0.0)


def test_blocks_that_no_query_sees_are_never_read(small_blocks):
    """NaN in one segment's blocks would spread by 0 * NaN into whatever reads them."""
    (query, *pair), where = random_inputs(64, rows=1), tokens_of((((1, 32), (2, 32)),))
    spoilt = [x.at[:, :, :32].set(jnp.nan) for x in pair]
    attend_jitted = jax.jit(attend_triton)
    expected, out = (attend_jitted(query, *keys, where, where) for keys in (pair, spoilt))
    np.testing.assert_array_equal(out[:, 32:], expected[:, 32:])


def test_ranges_of_blocks_worked_by_hand():
    """Places 0-5 are segment 1, 6-13 segment 2, 14-15 padding; blocks of 4: 1 and 3 mix segments, 2 holds one alone."""
    segments = jnp.asarray([[1] * 6 + [2] * 8 + [0] * 2])
    keys, tile, row = jnp.where(segments > 0, segments, NEVER), Tile(4, 4, 4, 2), jnp.arange(16)[None]
    np.testing.assert_array_equal(
        key_ranges(segments, keys, row, tile, None)[0], [[0, 0, 0, 1], [0, 0, 0, 2], [1, 2, 2, 3], [1, 2, 2, 4]]
    )
    np.testing.assert_array_equal(
        query_ranges(keys, row, tile, None)[0], [[0, 1, 1, 2], [1, 2, 2, 4], [2, 3, 3, 4], [3, 4, 4, 4]]
    )
    one = jnp.ones((1, 16), jnp.int32)
    np.testing.assert_array_equal(key_ranges(one, one, row, tile, None)[0], [[0, 0, i, i + 1] for i in range(4)])
    np.testing.assert_array_equal(query_ranges(one, row, tile, None)[0], [[i, i + 1, 4, 4] for i in range(4)])
    np.testing.assert_array_equal(key_ranges(one, one, row, tile, 3)[0][:, [0, 3]], [[0, 1], [0, 2], [1, 3], [2, 4]])
    np.testing.assert_array_equal(query_ranges(one, row, tile, 3)[0][:, [0, 3]], [[0, 2], [1, 3], [2, 4], [3, 4]])


def random_row(rng, length):
    """Segments of 1 to 40 tokens, a third of them padding."""
    runs, used = [], 0
    while used < length:
        count = min(int(rng.integers(1, 40)), length - used)
        runs.append((0 if rng.random() < 1 / 3 else len(runs) + 1, count))
        used += count
    return tuple(runs)


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("shards", [1, 3])
def test_ranges_hold_every_visible_pair_and_full_ones_only_visible_pairs(shards, window):
    length, tile, rng = 96, Tile(8, 4, 4, 2), np.random.default_rng(0)
    by_query_of, by_key_of = (
        jax.jit(lambda *args, function=function: function(*args, tile, window))
        for function in (key_ranges, query_ranges)
    )
    for _ in range(10):
        where = tokens_of((random_row(rng, length),))
        keys = jnp.where(where.segment_ids > 0, where.segment_ids, NEVER)
        for places in zigzag_order(length, shards).reshape(shards, -1, length // (2 * shards if shards > 1 else 1)):
            queries = Tokens(*(x[:, places.reshape(-1)] for x in where))
            mask = np.asarray(visible(*queries, *where, window))[0]
            blocks = mask.reshape(-1, tile.queries, length // tile.keys, tile.keys)
            by_query = np.asarray(by_query_of(queries.segment_ids, keys, places))[0]
            by_key = np.asarray(by_key_of(keys, places))[0]
            for i, j in np.ndindex(blocks.shape[0], blocks.shape[2]):
                for (begin, full_begin, full_end, end), at in ((by_query[i], j), (by_key[j], i)):
                    assert begin <= full_begin <= full_end <= end
                    assert begin <= at < end or not blocks[i, :, j].any()
                    assert not full_begin <= at < full_end or blocks[i, :, j].all()


def test_a_causal_row_computes_only_its_triangle_of_blocks_and_masks_only_the_diagonal():
    one, tile, row = jnp.ones((1, 4096), jnp.int32), Tile(128, 128, 8, 3), jnp.arange(4096)[None]
    for ranges in (key_ranges(one, one, row, tile, None), query_ranges(one, row, tile, None)):
        begin, full_begin, full_end, end = np.moveaxis(np.asarray(ranges[0]), -1, 0)
        assert (end - begin).sum() == 32 * 33 // 2
        assert ((end - begin) - (full_end - full_begin)).sum() == 32


def count_forward_kernels(*kept):
    """How often the gradient of a rematerialised attention runs the forward kernel, dead code not counted."""
    inputs, where = random_inputs(16, rows=1), tokens_of((((1, 16),),))
    policy = jax.checkpoint_policies.save_only_these_names(*kept)
    function = jax.checkpoint(lambda *inputs: jnp.sum(jnp.sin(attend_triton(*inputs, where, where))), policy=policy)
    jaxpr = jax.make_jaxpr(jax.value_and_grad(function, (0, 1, 2)))(*inputs).jaxpr
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return str(live).count("name=attention_forward")


def test_a_policy_that_keeps_the_named_results_runs_the_forward_kernel_once():
    assert count_forward_kernels(*ATTENTION_RESULTS) == 1
    assert count_forward_kernels("attention_out") == 2


def test_what_the_kernel_cannot_honour_is_refused_in_one_line():
    where = tokens_of((((1, 16),),))
    with pytest.raises(UserError, match=r"heads of at most 128 numbers, not 256"):
        attend_triton(*random_inputs(16, head_dim=256, rows=1), where, where)
    with pytest.raises(UserError, match=r"takes bfloat16 or float32.*not float16"):
        attend_triton(*random_inputs(16, rows=1, dtype=jnp.float16), where, where)
    query, key, value = random_inputs(16, rows=1)
    with pytest.raises(UserError, match=r"not bfloat16, float32"):
        attend_triton(query.astype(jnp.bfloat16), key, value, where, where)
    with pytest.raises(UserError, match=r"16 queries on each of 1 devices are not those of 8 keys"):
        attend_triton(query, key[:, :, :8], value[:, :, :8], where, Tokens(*(x[:, :8] for x in where)))
    device = jax.sharding.AbstractDevice(device_kind="TPU v5p", num_cores=1, platform="tpu")
    tpu = AbstractMesh((1,), ("data",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(tpu), pytest.raises(UserError, match='take "splash"'):
        attend_triton(query, key, value, where, where)


# Compiles for a card that is not there: arguments are a length and the head dimension.
COMPILE = """
import sys, jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from phi4r.model.attention import Tokens
from phi4r.model.attention.triton import attend_triton

CARD = '''gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  clock_rate_ghz: 1.98 device_memory_size: 84942979072 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
} platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } device_description_str: "NVIDIA H100 80GB HBM3"'''
length = int(sys.argv[1])
topology = topologies.get_topology_desc(
    platform="cuda", topology_name="h100", target_config=CARD, topology="1x1x1")
mesh = Mesh(np.array(topology.devices), ("data",), axis_types=(AxisType.Auto,))
shape = lambda *shape, dtype=jnp.bfloat16: jax.ShapeDtypeStruct(
    shape, dtype, sharding=NamedSharding(mesh, PartitionSpec()))
loss = lambda *inputs: jnp.sum(attend_triton(*inputs).astype(jnp.float32))
where = Tokens(*[shape(1, length, dtype=jnp.int32)] * 2)
with jax.set_mesh(mesh):
    program = jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(
        shape(1, length, 10, 4, 128), *[shape(1, 10, length, 128)] * 2, where, where)
print(program.compile().as_text())
"""


@pytest.mark.skipif(
    not any(importlib.util.find_spec(f"jax_cuda{n}_plugin") for n in (12, 13)), reason="needs the CUDA plugin of jax"
)
def test_the_three_kernels_compile_for_an_h100_that_is_not_there():
    length = 4096
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    result = subprocess.run(
        [sys.executable, "-c", COMPILE, str(length)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    calls = [line for line in result.stdout.splitlines() if "custom_call_target" in line]
    assert len(calls) == 3
    assert all("xla.gpu.triton" in call for call in calls)
    assert f"{length},{length}" not in result.stdout, "scores of a whole row in memory"
    assert f"10,4,{length},128" not in result.stdout, "a copy of K or V for each query head"
