import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from phi4r.errors import UserError
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.train.optim import OptimizerSettings, make_optimizer
from phi4r.train.rounding import round_stochastically, round_updates
from phi4r.train.state import abstract_state, create_state

BF16 = jnp.bfloat16


def run(optimizer, params, gradient, steps):
    """The parameters after `steps` updates with the gradient of each."""

    @jax.jit
    def many(params):
        def step(carry, number):
            params, state = carry
            updates, state = optimizer.update(gradient(number), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))[0]

    return many(params)


def test_updates_of_one_part_in_512_stand_still_to_the_nearest_and_arrive_otherwise():
    """Weights of 1, 100 steps of 1/512: 1 + 100/512 = 1.1953.

    Numbers in bfloat16 between 1 and 2 are 1/128 apart. To the nearest, 1 + 1/512 is 1. Kahan ends at 1.1953 = 153/128.
    Stochastic rounding takes one update in four as 1/128: the mean is 1.1953, the standard deviation of a weight
    sqrt(100 * 3/16) / 128 = 0.034.
    """
    params = {"w": jnp.ones((4096,), BF16)}
    plain = optax.sgd(1 / 512)

    def gradient(_):
        return {"w": jnp.full((4096,), -1.0, jnp.float32)}

    nearest = run(plain, params, gradient, 100)[0]["w"]
    np.testing.assert_array_equal(nearest.astype("f4"), 1.0)
    kahan = run(round_updates(plain, "kahan"), params, gradient, 100)[0]["w"]
    np.testing.assert_array_equal(kahan.astype("f4"), 153 / 128)
    drawn = run(round_updates(plain, "stochastic"), params, gradient, 100)[0]["w"].astype("f4")
    assert drawn.dtype == np.float32 and drawn.mean() == pytest.approx(1 + 100 / 512, abs=4 * 0.034 / 64)
    assert drawn.std() == pytest.approx(0.034, rel=0.1)


def test_kahan_and_stochastic_track_adamw_in_float32_where_nearest_does_not():
    """300 steps of AdamW at 1e-4 on weights of about 1, against optax with float32 parameters: a path of about 0.03."""
    start = 1.0 + 0.5 * np.random.default_rng(0).random((2048,)).astype(np.float32)
    start = jnp.asarray(start, BF16)
    noise = jnp.asarray(np.random.default_rng(1).standard_normal((300, 2048)), jnp.float32)

    def gradient(number):
        return {"w": 0.5 + noise[number]}

    adamw = optax.adamw(1e-4, b1=0.9, b2=0.95, weight_decay=1e-2)
    master, master_state = run(adamw, {"w": start.astype(jnp.float32)}, gradient, 300)
    path = float(jnp.abs(master["w"] - start.astype(jnp.float32)).mean())
    assert 0.005 < path < 0.04

    def error(rounding):
        settings = OptimizerSettings(
            learning_rate=1e-4,
            warmup_steps=0,
            schedule="constant",
            weight_decay=1e-2,
            clip_norm=None,
            rounding=rounding,
        )
        params, state = run(make_optimizer(settings, num_steps=300)[0], {"w": start}, gradient, 300)
        assert params["w"].dtype == BF16
        return params["w"].astype(jnp.float32) - master["w"], state

    still, _ = error("nearest")
    assert float(jnp.abs(still).mean()) > 0.9 * path
    kahan, state = error("kahan")
    assert float(jnp.abs(kahan).max()) <= 1 / 256 + 1e-4  # half a step of bfloat16 between 1 and 2
    # the optimizer saw float32: its moments are those of the master
    moments = [leaf for leaf in jax.tree.leaves(state.inner) if leaf.ndim]
    theirs = [leaf for leaf in jax.tree.leaves(master_state) if leaf.ndim]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), moments, theirs)
    stochastic, _ = error("stochastic")
    assert abs(float(stochastic.mean())) < 0.03 * path
    assert float(jnp.abs(stochastic).max()) < 0.1


def test_stochastic_rounding_goes_to_a_neighbour_with_the_probability_of_the_rest():
    """1 + 3/512 lies 3/4 of the way from 1 to 1 + 1/128."""
    x = jnp.concatenate([jnp.full(40_000, 1 + 3 / 512), -jnp.full(40_000, 1 + 3 / 512)])
    rounded = round_stochastically(x, jax.random.key(0)).astype(jnp.float32)
    assert set(np.unique(rounded)) == {1.0, 1.0078125, -1.0, -1.0078125}
    for half in (rounded[:40_000], -rounded[40_000:]):
        assert float((half > 1.0).mean()) == pytest.approx(0.75, abs=0.01)
    exact = jnp.array([0.0, -0.0, 1.0, -2.5, 3.0e38, np.inf, -np.inf], jnp.float32)
    np.testing.assert_array_equal(round_stochastically(exact, jax.random.key(1)), exact.astype(BF16))
    assert bool(jnp.isnan(round_stochastically(jnp.array([np.nan], jnp.float32), jax.random.key(2)))[0])


@pytest.mark.parametrize("rounding", ["stochastic", "kahan"])
def test_the_draws_depend_on_the_step_and_not_on_the_mesh(rounding):
    optimizer = round_updates(optax.sgd(1 / 512), rounding)
    params = {"a": jnp.ones((8, 16), BF16), "b": jnp.ones((8, 16), BF16)}
    grads = jax.tree.map(lambda x: -jnp.ones(x.shape), params)
    mesh = make_mesh(MeshSettings(fsdp=8))
    spread = jax.device_put(params, jax.NamedSharding(mesh, jax.P("fsdp")))
    state = create_state(spread, optimizer)
    layouts = {leaf.sharding.spec for leaf in jax.tree.leaves((state.opt_state.lost, state.params))}
    assert layouts == {jax.P("fsdp")}
    shapes = jax.tree.map(jnp.shape, abstract_state(state.params, optimizer))
    assert shapes == jax.tree.map(jnp.shape, state)
    update = jax.jit(optimizer.update)
    ours, first = update(grads, state.opt_state, state.params)
    theirs, _ = update(grads, optimizer.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    if rounding == "stochastic":
        again, _ = update(grads, first, params)
        assert (again["a"] != ours["a"]).any() and (ours["a"] != ours["b"]).any()


def test_parameters_in_float32_are_refused():
    with pytest.raises(UserError, match=r"in bfloat16, these are float32; set model\.param_dtype"):
        round_updates(optax.sgd(1.0), "kahan").init({"w": jnp.ones(3)})
