import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from phi4r.errors import UserError
from phi4r.metrics.throughput import CompileCounter
from phi4r.sharding import MeshSettings, batch_sharding, make_mesh
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.state import create_state, state_shardings
from phi4r.train.step import (
    LossSum,
    Max,
    Mean,
    fill_order,
    join_rows,
    make_update_fn,
    mean_metrics,
    parts_in_use,
    split_rows,
    sum_gradients,
)


def squared_error(params, batch):
    """Weighted squared error of a linear model: sum_i weight_i (x_i . w + b - y_i)^2."""
    error = batch["x"] @ params["w"] + params["b"] - batch["y"]
    total = (batch["weight"] * error**2).sum()
    weight = batch["weight"].sum()
    return LossSum(total, weight, {"bias": Mean((batch["weight"] * error).sum(), weight)})


def deep_loss(params, batch):
    """A loss with curvature everywhere, so that a wrong gradient cannot pass by luck."""
    hidden = jnp.tanh(batch["x"] @ params["w"])
    error = hidden.sum(-1) - batch["y"]
    return LossSum((batch["weight"] * jnp.cosh(error)).sum(), batch["weight"].sum(), {})


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    weight = np.arange(32, dtype=np.float32) ** 2  # very unequal: micro-batch weights differ several times
    weight[::4] = 0.0  # with 4 micro-batches the first has no weight at all
    return {
        "x": rng.normal(size=(32, 8)).astype(np.float32),
        "y": rng.normal(size=32).astype(np.float32),
        "weight": weight,
    }


@pytest.fixture
def params():
    return {"w": np.random.default_rng(1).normal(size=(8, 16)).astype(np.float32)}


def test_one_sgd_step_worked_by_hand():
    batch = {"x": jnp.array([[1.0], [2.0]]), "y": jnp.array([0.0, 1.0]), "weight": jnp.array([1.0, 3.0])}
    state = create_state({"w": jnp.array([2.0]), "b": jnp.array(1.0)}, optax.sgd(0.5))
    state, metrics = make_update_fn(squared_error, optax.sgd(0.5), schedule=lambda t: 0.5)(state, batch)
    # errors 3 and 4: total 1*9 + 3*16 = 57 over weight 4
    # gradients of the total: w 2*(3*1 + 3*4*2) = 54, b 2*(3 + 3*4) = 30
    np.testing.assert_allclose(metrics["loss"], 57 / 4)
    np.testing.assert_allclose(metrics["bias"], (3 + 3 * 4) / 4)
    np.testing.assert_allclose(metrics["grad_norm"], np.hypot(54 / 4, 30 / 4), rtol=1e-6)
    np.testing.assert_allclose(metrics["update_norm"], 0.5 * np.hypot(54 / 4, 30 / 4), rtol=1e-6)
    np.testing.assert_allclose(state.params["w"], [2 - 0.5 * 54 / 4])
    np.testing.assert_allclose(state.params["b"], 1 - 0.5 * 30 / 4)
    np.testing.assert_allclose(metrics["param_norm"], np.hypot(4.75, 2.75), rtol=1e-6)
    assert (float(metrics["weight"]), float(metrics["learning_rate"]), int(state.step)) == (4.0, 0.5, 1)


@pytest.mark.parametrize("num_microbatches", [2, 4, 32])
def test_micro_batches_of_unequal_weight_sum_to_the_whole_batch(batch, params, num_microbatches):
    whole, whole_grads = sum_gradients(deep_loss, params, batch)
    cut, cut_grads = sum_gradients(deep_loss, params, batch, num_microbatches=num_microbatches)
    np.testing.assert_allclose(cut.total, whole.total, rtol=2e-6)
    np.testing.assert_allclose(cut.weight, whole.weight)
    np.testing.assert_allclose(cut_grads["w"], whole_grads["w"], rtol=1e-5, atol=1e-4)
    assert float(jnp.abs(whole_grads["w"]).min()) > 1.0  # the comparison above is not one of zeros


def test_eight_devices_and_micro_batches_make_the_update_of_one_device(batch, params):
    optimizer, _ = make_optimizer(OptimizerSettings(learning_rate=0.1, warmup_steps=0), num_steps=10)
    alone, alone_metrics = make_update_fn(deep_loss, optimizer)(
        create_state(jax.tree.map(jnp.asarray, params), optimizer), batch
    )
    mesh = make_mesh(MeshSettings(fsdp=8))
    state = create_state(on_mesh(params, mesh), optimizer)
    update_fn = make_update_fn(deep_loss, optimizer, num_microbatches=4, state_shardings=state_shardings(state))
    spread, metrics = update_fn(state, jax.device_put(batch, batch_sharding(mesh)))
    np.testing.assert_allclose(spread.params["w"], alone.params["w"], rtol=1e-4)
    for name in alone_metrics:
        np.testing.assert_allclose(metrics[name], alone_metrics[name], rtol=1e-5, err_msg=name)


def test_the_state_keeps_its_layout_and_the_step_compiles_once(batch, params):
    optimizer, schedule = make_optimizer(OptimizerSettings(warmup_steps=2), num_steps=10)
    mesh = make_mesh(MeshSettings(fsdp=8))
    state = create_state(on_mesh(params, mesh), optimizer)
    layout = state_shardings(state)
    update_fn = make_update_fn(deep_loss, optimizer, num_microbatches=2, schedule=schedule, state_shardings=layout)
    batch = jax.device_put(batch, batch_sharding(mesh))
    state, _ = update_fn(state, batch)
    assert state_shardings(state) == layout
    with CompileCounter() as counter:
        for _ in range(3):
            state, _ = update_fn(state, batch)
    assert counter.count == 0


def test_gradients_are_accumulated_in_shards(batch):
    """The compiled update holds no array as large as the whole parameter matrix, which is spread over 8 devices."""
    params = {"w": np.ones((8, 48), np.float32)}
    mesh = make_mesh(MeshSettings(fsdp=8))
    optimizer, _ = make_optimizer(OptimizerSettings(warmup_steps=0), num_steps=10)
    sharding = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    state = create_state({"w": jax.device_put(params["w"], sharding)}, optimizer)
    update_fn = make_update_fn(deep_loss, optimizer, num_microbatches=4, state_shardings=state_shardings(state))
    batch = jax.device_put(batch, batch_sharding(mesh))
    carries = [line for line in update_fn.lower(state, batch).compile().as_text().splitlines() if " while(" in line]
    assert len(carries) == 1 and "f32[8,6]" in carries[0] and "f32[8,48]" not in carries[0]


def test_the_update_writes_into_the_buffers_of_the_state(batch, params):
    optimizer, _ = make_optimizer(OptimizerSettings(warmup_steps=0), num_steps=10)
    state = create_state(jax.tree.map(jnp.asarray, params), optimizer)
    update_fn = make_update_fn(deep_loss, optimizer)
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert update_fn.lower(state, batch).compile().memory_analysis().alias_size_in_bytes == state_bytes
    before = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state.params)]
    after, _ = update_fn(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(after.params)] == before


def test_a_batch_without_weight_teaches_nothing(batch, params):
    batch = {**batch, "weight": np.zeros(32, np.float32)}
    state = create_state(jax.tree.map(jnp.asarray, params), optax.sgd(1.0))
    state, metrics = make_update_fn(deep_loss, optax.sgd(1.0), num_microbatches=2)(state, batch)
    np.testing.assert_array_equal(state.params["w"], params["w"])
    assert (float(metrics["loss"]), float(metrics["grad_norm"]), float(metrics["finite"])) == (0.0, 0.0, 1.0)


def test_a_mean_over_nothing_is_nan_and_leaves_the_loss_alone():
    sums = LossSum(jnp.array(6.0), jnp.array(3.0), {"length_right": Mean(jnp.array(0.0), jnp.array(0.0))})
    metrics = mean_metrics(sums)
    assert float(metrics["loss"]) == 2.0 and np.isnan(metrics["length_right"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])  # the last overflows in cosh only
def test_an_update_that_is_not_finite_leaves_the_state_bit_for_bit(batch, params, bad):
    optimizer, _ = make_optimizer(OptimizerSettings(learning_rate=0.1, warmup_steps=0), num_steps=10)
    update_fn = make_update_fn(deep_loss, optimizer, num_microbatches=2)
    state, metrics = update_fn(create_state(jax.tree.map(jnp.asarray, params), optimizer), batch)
    assert float(metrics["finite"]) == 1.0
    before = jax.device_get(state)
    y = batch["y"].copy()
    y[1] = bad
    state, metrics = update_fn(state, {**batch, "y": y})
    assert float(metrics["finite"]) == 0.0
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), before)
    state, metrics = update_fn(state, batch)
    assert float(metrics["finite"]) == 1.0 and int(state.step) == 2


def test_a_gradient_that_is_not_finite_is_caught_where_the_loss_is():
    def root(params, batch):
        return LossSum(jnp.sqrt(params["w"]).sum(), jnp.array(1.0), {})  # loss 0, gradient infinite

    state = create_state({"w": jnp.zeros(2)}, optax.sgd(1.0))
    state, metrics = make_update_fn(root, optax.sgd(1.0))(state, jnp.zeros(1))
    assert (float(metrics["loss"]), float(metrics["finite"])) == (0.0, 0.0)
    np.testing.assert_array_equal(state.params["w"], [0.0, 0.0])


def test_micro_batches_take_rows_of_every_device_and_move_none():
    mesh = make_mesh(MeshSettings(fsdp=8))
    rows = jax.device_put(jnp.arange(16.0), batch_sharding(mesh))
    split = jax.jit(lambda x: split_rows(x, 2))
    parts = split(rows)
    np.testing.assert_array_equal(parts, [np.arange(0, 16, 2), np.arange(1, 16, 2)])
    assert [shard.data.shape for shard in parts.addressable_shards] == [(2, 1)] * 8
    compiled = split.lower(rows).compile().as_text()
    assert not [word for word in ("all-gather", "all-to-all", "collective-permute") if word in compiled]


def test_joining_undoes_splitting():
    rows = {"x": jnp.arange(24.0).reshape(12, 2), "y": jnp.arange(12)}
    parts = split_rows(rows, 3)
    np.testing.assert_array_equal(parts["y"][1], [1, 4, 7, 10])
    jax.tree.map(np.testing.assert_array_equal, join_rows(parts), rows)


def test_rows_that_do_not_divide_into_micro_batches_are_refused(batch):
    with pytest.raises(UserError, match="32 rows does not divide into 3 micro-batches"):
        split_rows(batch, 3)


def on_mesh(params, mesh):
    return jax.device_put(params, NamedSharding(mesh, PartitionSpec("fsdp")))


def test_a_maximum_is_that_of_all_micro_batches():
    def loss_fn(params, batch):
        sums = deep_loss(params, batch)
        return sums.replace(metrics={"largest": Max(jnp.max(batch["x"]))})

    batch = {"x": jnp.arange(8.0).reshape(8, 1)[::-1] / 10, "y": jnp.zeros(8), "weight": jnp.ones(8)}
    sums, _ = sum_gradients(loss_fn, {"w": jnp.ones((1, 1))}, batch, num_microbatches=4)
    assert float(mean_metrics(sums)["largest"]) == pytest.approx(0.7)


def test_rows_in_fill_order_fill_one_micro_batch_after_the_other():
    parts = split_rows(np.argsort(fill_order(12, 3)), 3)
    np.testing.assert_array_equal(parts, np.arange(12).reshape(3, 4))


@pytest.mark.parametrize(("rows", "parts"), [([], 0), ([0], 1), ([0, 3], 1), ([1], 2), ([5, 0], 3)])
def test_parts_are_counted_up_to_the_last_in_use(rows, parts):
    # Rows 0 and 3 are the first part, 1 and 4 the second, 2 and 5 the third.
    assert int(parts_in_use(jnp.isin(jnp.arange(6), jnp.array(rows, int)), 3)) == parts


def test_micro_batches_behind_the_last_row_in_use_are_not_computed(batch, params):
    used = np.isin(np.arange(32), fill_order(32, 4)[:9])  # two of four micro-batches, the second almost empty
    filled = {name: np.where(used.reshape(-1, *[1] * (x.ndim - 1)), x, 0) for name, x in batch.items()}
    third = np.arange(32) % 4 >= 2
    broken = {**filled, "y": np.where(third, np.nan, filled["y"]).astype(np.float32)}
    expected, expected_grads = sum_gradients(deep_loss, params, filled, num_microbatches=4)
    in_use = lambda rows: jnp.any(rows["x"] != 0, axis=1)  # noqa: E731
    sums, grads = jax.jit(
        lambda params, batch: sum_gradients(deep_loss, params, batch, num_microbatches=4, rows_in_use=in_use)
    )(params, broken)
    np.testing.assert_allclose(sums.total, expected.total, rtol=1e-6)
    np.testing.assert_allclose(grads["w"], expected_grads["w"], rtol=1e-5, atol=1e-6)
    assert not np.isfinite(sum_gradients(deep_loss, params, broken, num_microbatches=4)[0].total)
