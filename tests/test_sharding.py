import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from phi4r.errors import UserError
from phi4r.model.config import PHI4, ModelConfig
from phi4r.model.inputs import make_token_batch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer, abstract_params, init_params, param_axes
from phi4r.sharding import (
    MeshSettings,
    batch_shards,
    constrain,
    make_mesh,
    param_shardings,
    zigzag_order,
)
from phi4r.train.setup import rows_to_mesh
from phi4r.train.step import LossSum, sum_gradients

# 10 KV heads, as in phi-4, divide over 2 of 4 or 8 devices only; a vocabulary of 61 divides over nothing.
CONFIG = ModelConfig(
    vocab_size=61,
    num_layers=2,
    embed_dim=32,
    num_heads=40,
    num_kv_heads=10,
    head_dim=8,
    mlp_dim=48,
    init_std=0.1,
    remat="full",
)
MESHES = {
    "data": MeshSettings(data=8, fsdp=1),
    "fsdp": MeshSettings(),
    "tensor_2": MeshSettings(fsdp=4, tensor=2),
    "tensor_4": MeshSettings(fsdp=2, tensor=4),
    "tensor_8": MeshSettings(fsdp=1, tensor=8),
    "context_2": MeshSettings(fsdp=4, context=2),
    "context_4": MeshSettings(data=2, fsdp=1, context=4),
    "all_four_axes": MeshSettings(data=2, fsdp=1, context=2, tensor=2),
    "context_and_tensor": MeshSettings(fsdp=1, context=2, tensor=4),
}


@functools.cache
def params_and_batch():
    params = jax.jit(functools.partial(init_params, CONFIG))(jax.random.key(0))
    rng = np.random.default_rng(0)
    segments = np.sort(rng.integers(1, 4, (8, 16)), axis=1)
    segments[:, -2:] = 0
    return params, make_token_batch(rng.integers(0, 61, (8, 16)), segments, rng.random((8, 16)) < 0.9)


def loss_fn(params, batch):
    logprobs, entropy = token_logprobs(Transformer(CONFIG), params, batch, chunk_size=6)
    total = -jnp.sum((logprobs + 0.01 * entropy) * batch.loss_mask)
    return LossSum(total, jnp.sum(batch.loss_mask), {})


def one_update(params, batch, shardings=None):
    """Returns loss, gradients and the parameters after one step of AdamW."""
    optimizer = optax.adamw(1e-2, eps=1e-4)

    @functools.partial(jax.jit, out_shardings=(None, shardings, shardings))
    def update(params, batch):
        sums, grads = sum_gradients(loss_fn, params, batch, num_microbatches=1, shardings=shardings)
        grads = jax.tree.map(lambda g: g / sums.weight, grads)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        return sums.total / sums.weight, grads, optax.apply_updates(params, updates)

    return update(params, batch)


@functools.cache
def on_one_device():
    return one_update(*params_and_batch())


def shardings_of(mesh, config=CONFIG):
    return param_shardings(mesh, param_axes(config), abstract_params(config))


@pytest.mark.parametrize("name", MESHES)
def test_loss_gradients_and_an_update_on_a_mesh_equal_those_of_one_device(name):
    mesh = make_mesh(MESHES[name], heads=CONFIG.heads)
    params, batch = params_and_batch()
    shardings = shardings_of(mesh)
    with jax.set_mesh(mesh):
        loss, *trees = one_update(jax.device_put(params, shardings), rows_to_mesh(batch, mesh), shardings)
    expected_loss, *expected_trees = on_one_device()
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)

    def assert_near(got, expected):
        error = np.linalg.norm(np.asarray(got) - np.asarray(expected))
        assert error < 1e-6 * np.linalg.norm(expected)

    jax.tree.map(assert_near, trees, expected_trees)


def test_parameters_lie_by_the_table_and_a_dimension_that_does_not_divide_stays_whole():
    mesh = make_mesh(MeshSettings(fsdp=2, tensor=4), heads=CONFIG.heads)
    specs = jax.tree.map(lambda sharding: sharding.spec, shardings_of(mesh))
    assert specs["layers"]["attn"]["q"] == PartitionSpec(None, "fsdp", "kv", "group", None)
    assert specs["layers"]["attn"]["k"] == PartitionSpec(None, "fsdp", "kv", None)
    assert specs["layers"]["mlp"]["down"] == PartitionSpec(None, ("kv", "group"), "fsdp")
    assert specs["embedding"] == PartitionSpec(None, "fsdp")  # 61 rows over 4


def test_ten_kv_heads_over_4_devices_are_halved_and_their_query_heads_quartered():
    mesh = make_mesh(MeshSettings(fsdp=2, tensor=4), heads=PHI4.heads)
    shapes, shardings = abstract_params(PHI4)["layers"]["attn"], shardings_of(mesh, PHI4)["layers"]["attn"]
    assert shardings["k"].shard_shape(shapes["k"].shape) == (40, 2560, 5, 128)
    assert shardings["q"].shard_shape(shapes["q"].shape) == (40, 2560, 5, 2, 128)


@pytest.mark.parametrize("tensor", [3, 7, 16])
def test_tensor_parts_that_do_not_divide_the_heads_are_refused_with_those_that_do(tensor):
    with pytest.raises(UserError, match="take one of 1, 2, 4, 5, 8, 10, 20, 40"):
        make_mesh(MeshSettings(fsdp=1, tensor=tensor), jax.devices()[:1] * tensor, heads=PHI4.heads)


def test_each_part_of_a_zigzag_row_sees_as_much_of_it():
    order = zigzag_order(16, 4)
    np.testing.assert_array_equal(order, [0, 1, 14, 15, 2, 3, 12, 13, 4, 5, 10, 11, 6, 7, 8, 9])
    seen = (order + 1).reshape(4, 4).sum(axis=1)  # place n of a row sees n + 1 tokens
    np.testing.assert_array_equal(seen, [34, 34, 34, 34])
    np.testing.assert_array_equal(zigzag_order(5, 1), range(5))


def test_each_device_holds_its_part_of_phi_4_and_no_more():
    shardings = shardings_of(make_mesh(MeshSettings(fsdp=4, tensor=2)), PHI4)
    shapes = abstract_params(PHI4)
    held = jax.tree.map(lambda s, leaf: int(np.prod(s.shard_shape(leaf.shape))), shardings, shapes)
    norms = 81 * 5120  # the only parameters that every device holds whole
    assert sum(jax.tree.leaves(held)) == (14_659_507_200 - norms) // 8 + norms


def test_parameters_made_on_a_mesh_never_exist_whole_on_one_device():
    mesh = make_mesh(MeshSettings(fsdp=8))
    config = CONFIG.replace(vocab_size=64)
    make = jax.jit(functools.partial(init_params, config), out_shardings=shardings_of(mesh, config))
    params = make(jax.random.key(0))
    norms = 5 * 32
    for device in mesh.devices.flat:
        shards = [s for leaf in jax.tree.leaves(params) for s in leaf.addressable_shards if s.device == device]
        assert sum(s.data.nbytes for s in shards) == 4 * ((config.num_params - norms) // 8 + norms)


def test_a_constraint_lays_out_what_divides_and_leaves_the_rest_whole():
    mesh = make_mesh(MeshSettings(fsdp=4, tensor=2))
    with jax.set_mesh(mesh):
        even = jax.jit(lambda x: constrain(x, "batch", "vocab"))(jnp.ones((8, 6)))
        odd = jax.jit(lambda x: constrain(x, "batch", "vocab"))(jnp.ones((8, 61)))
    assert even.sharding.shard_shape(even.shape) == (2, 3)
    assert odd.sharding.shard_shape(odd.shape) == (2, 61)
    outside = jax.jit(lambda x: constrain(x, "batch", "vocab"))(jnp.ones((8, 6)))
    assert outside.sharding.shard_shape(outside.shape) == (8, 6)


def test_a_free_axis_takes_the_devices_that_remain():
    mesh = make_mesh(MeshSettings(data=2, fsdp=-1, tensor=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "context": 1, "kv": 2, "group": 1}
    assert batch_shards(mesh) == 4
    assert dict(make_mesh(devices=jax.devices()[:3]).shape)["fsdp"] == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (MeshSettings(data=3), "does not fit 8 devices"),
        (MeshSettings(data=2, fsdp=2), "does not fit 8 devices"),
        (MeshSettings(data=16, fsdp=1), "does not fit 8 devices"),
        (MeshSettings(data=-1, fsdp=-1), "at most one may be -1"),
        (MeshSettings(tensor=0), "sizes are positive"),
        (MeshSettings(tensor=-2), "sizes are positive"),
    ],
    ids=str,
)
def test_a_mesh_that_does_not_fit_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        make_mesh(settings)
