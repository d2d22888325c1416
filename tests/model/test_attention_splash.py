import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval
from jax.sharding import PartitionSpec

from phi4r.data.packing import stretched_positions
from phi4r.errors import UserError
from phi4r.model.attention import Tokens, splash, visible
from phi4r.model.attention.dense import attend_dense
from phi4r.model.attention.splash import attend_splash, block_sizes, visited_blocks
from phi4r.sharding import MeshSettings, make_mesh, zigzag_order

BATCH, LENGTH, KV_HEADS, QUERIES, HEAD_DIM = 2, 384, 2, 2, 64
# (start, end) of the segments of each row: padding on the left, in the middle and on the right; and a full row.
ROWS = (((10, 140), (150, 300), (300, 310)), ((0, 300), (300, 384)))


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch):
    """Blocks so small that rows of a test have several."""
    monkeypatch.setattr(splash, "LARGEST_BLOCK", 128)


def packed(rows=ROWS, length=LENGTH, stretch=1.0):
    segments, positions = np.zeros((2, len(rows), length), np.int32)
    for b, row in enumerate(rows):
        for segment, (start, end) in enumerate(row, start=1):
            segments[b, start:end] = segment
            positions[b, start:end] = stretched_positions(end - start, stretch, np.random.default_rng(segment))
    return Tokens(jnp.asarray(segments), jnp.asarray(positions))


def random_inputs(length=LENGTH, head_dim=HEAD_DIM, dtype="float32"):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = [(BATCH, length, KV_HEADS, QUERIES, head_dim)] + [(BATCH, KV_HEADS, length, head_dim)] * 2
    return [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]


def output_and_gradients(attend, inputs, where):
    """Returns the output at real positions, and the gradients of a weighted sum of it; float32."""
    real = (where.segment_ids > 0)[:, :, None, None, None]
    target = jax.random.normal(jax.random.key(1), inputs[0].shape)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(inputs):
        out = jnp.where(real, attend(*inputs, where, where), 0.0).astype(jnp.float32)
        return jnp.sum(out * target), out

    (_, out), grads = loss(inputs)
    return [np.asarray(x, np.float32) for x in (out, *grads)]


def assert_like_dense(inputs, where, attend=attend_splash, **tolerance):
    expected = output_and_gradients(attend_dense, inputs, where)
    for result, reference in zip(output_and_gradients(attend, inputs, where), expected, strict=True):
        np.testing.assert_allclose(result, reference, **(tolerance or {"atol": 1e-5, "rtol": 0}))


def attend_sharded(shards):
    """attend_splash over a mesh with `context`, for rows in natural order."""
    mesh = make_mesh(MeshSettings(fsdp=1, context=shards), jax.devices()[:shards])
    split, whole = PartitionSpec(None, "context"), PartitionSpec()

    def attend(query, key, value, queries, keys):
        order = zigzag_order(query.shape[1], shards)
        kernel = jax.shard_map(
            functools.partial(attend_splash, context_shards=shards),
            mesh=mesh,
            in_specs=(split, whole, whole, split, whole),
            out_specs=split,
            check_vma=False,
        )
        queries = Tokens(*(x[:, order] for x in queries))
        return kernel(query[:, order], key, value, queries, keys)[:, order.argsort()]

    return attend


def test_packed_rows_at_stretched_positions_equal_the_dense_backend_and_so_do_their_gradients():
    where = packed(stretch=3.0)
    assert int(where.positions.max()) > LENGTH
    assert_like_dense(random_inputs(), where)


def test_one_block_equals_the_dense_backend(monkeypatch):
    monkeypatch.setattr(splash, "LARGEST_BLOCK", 1024)
    assert_like_dense(random_inputs(), packed())


def test_a_length_that_is_no_multiple_of_a_block_equals_the_dense_backend():
    assert_like_dense(random_inputs(300, head_dim=96), packed((((0, 130), (130, 290)), ((5, 300),)), 300))


@pytest.mark.parametrize(("shards", "length"), [(2, 512), (4, 512), (2, 300)])
def test_parts_of_a_row_on_several_devices_equal_the_dense_backend(shards, length):
    rows = ((10, 140), (150, 280), (280, length - 20)), ((0, length),)
    assert_like_dense(random_inputs(length), packed(rows, length), attend_sharded(shards))


def test_bfloat16_is_as_near_to_float32_as_the_dense_backend():
    where, inputs = packed(), random_inputs(dtype="bfloat16")
    exact = output_and_gradients(attend_dense, [x.astype(jnp.float32) for x in inputs], where)
    ours, dense = (output_and_gradients(attend, inputs, where) for attend in (attend_splash, attend_dense))
    for reference, result, rival in zip(exact, ours, dense, strict=True):
        assert np.abs(result - reference).mean() < 1.5 * np.abs(rival - reference).mean()


def test_padding_gives_no_nan_and_leaves_no_trace_in_real_keys():
    inputs, where = random_inputs(), packed((((100, 200),), ()))
    real = np.asarray(where.segment_ids) > 0

    def loss(inputs):  # of padding queries alone
        return jnp.sum(jnp.where(real[:, :, None, None, None], 0.0, attend_splash(*inputs, where, where)) ** 2)

    value, (query, *keys) = jax.jit(jax.value_and_grad(loss))(inputs)
    assert np.isfinite(value)
    assert np.isfinite(query).all()
    for grad in keys:
        assert np.isfinite(grad).all()
        np.testing.assert_array_equal(np.swapaxes(grad, 1, 2)[real], 0.0)


def test_only_blocks_with_a_visible_pair_and_those_on_the_diagonal_are_visited():
    length, block = 1024, 128
    where = packed((((0, 128), (128, 600), (700, 720)),), length)
    places = jnp.arange(length)[None]
    visited = np.asarray(visited_blocks(where.segment_ids, places, where.segment_ids, block, block)[0])
    mask = np.asarray(visible(*where, *where)[0]).reshape(8, block, 8, block).any(axis=(1, 3))
    np.testing.assert_array_equal(visited, mask | np.eye(8, dtype=bool))
    assert visited.sum() == 1 + (1 + 2 + 3 + 4) + 3  # each segment's triangle; of padding, and 20 tokens, the diagonal


@pytest.mark.parametrize("shards", [2, 4])
def test_every_device_of_context_visits_as_many_blocks(shards):
    length, block = 2048, 128
    ids = np.ones((1, length), np.int32)
    local = zigzag_order(length, shards).reshape(shards, 1, -1)
    counts = [visited_blocks(jnp.asarray(ids[:, : p.shape[1]]), jnp.asarray(p), ids, block, block).sum() for p in local]
    whole = 16 * 17 // 2
    assert [int(count) for count in counts] == [whole // shards] * shards


@pytest.mark.parametrize(
    ("length", "head_bytes", "block", "product"),
    [
        (32768, 256, 1024, 512),
        (1024, 512, 1024, 512),
        (1, 256, 128, 128),
        (4200, 256, 896, 128),
        (4096, 1024, 512, 512),
    ],
)
def test_blocks_cover_a_row_with_little_padding(monkeypatch, length, head_bytes, block, product):
    monkeypatch.setattr(splash, "LARGEST_BLOCK", 1024)
    sizes = block_sizes(length, 4096, head_bytes)
    assert (sizes.block_q, sizes.block_q_dq, sizes.block_q_dkv) == (block,) * 3
    sizes = block_sizes(4096, length, head_bytes)
    assert (sizes.block_kv, sizes.block_kv_dq, sizes.block_kv_dkv) == (block,) * 3
    assert (sizes.block_kv_compute, sizes.block_kv_dkv_compute) == (product,) * 2


def count_forward_kernels(policy):
    """How often the gradient of a rematerialised attention runs the forward kernel, dead code not counted."""
    inputs, where = random_inputs(), packed()
    attend = jax.checkpoint(lambda *inputs: jnp.sin(attend_splash(*inputs, where, where)).sum(), policy=policy)
    jaxpr = jax.make_jaxpr(jax.value_and_grad(attend))(*inputs).jaxpr
    live, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return str(live).count("name=splash_mha_fwd")


def test_a_policy_that_saves_the_results_of_attention_runs_the_kernel_once():
    saved = jax.checkpoint_policies.save_only_these_names("attention_out", "attention_lse")
    assert count_forward_kernels(saved) == 1
    assert count_forward_kernels(None) == 2


def test_a_window_is_refused_with_the_backend_that_has_it():
    with pytest.raises(UserError, match='attention="blockwise"'):
        attend_splash(*random_inputs(), packed(), packed(), window=100)


def test_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(splash, "device_in_use", lambda: types.SimpleNamespace(platform="gpu"))
    with pytest.raises(UserError, match="not on a gpu"):
        attend_splash(*random_inputs(), packed(), packed())
