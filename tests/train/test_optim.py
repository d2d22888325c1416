import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from phi4r.errors import UserError
from phi4r.train.optim import OptimizerSettings, decay_mask, make_optimizer, make_schedule


def test_defaults_are_the_papers_sft():
    settings = OptimizerSettings()
    assert (settings.learning_rate, settings.warmup_steps, settings.weight_decay) == (1e-5, 450, 1e-4)


def test_warmup_rises_by_equal_parts_and_the_first_update_learns():
    settings = OptimizerSettings(learning_rate=4.0, warmup_steps=4, schedule="constant")
    schedule = make_schedule(settings, num_steps=10)
    assert [float(schedule(t)) for t in range(6)] == [1.0, 2.0, 3.0, 4.0, 4.0, 4.0]


def test_linear_decay_by_hand():
    settings = OptimizerSettings(learning_rate=1.0, warmup_steps=2, schedule="linear", end_fraction=0.2)
    schedule = make_schedule(settings, num_steps=10)
    # 8 steps of decay from 1.0 to 0.2: 0.1 a step
    np.testing.assert_allclose([schedule(t) for t in (2, 3, 6, 9, 10)], [1.0, 0.9, 0.6, 0.3, 0.2], rtol=1e-6)


def test_cosine_decay_by_hand():
    settings = OptimizerSettings(learning_rate=2.0, warmup_steps=0, schedule="cosine", end_fraction=0.1)
    schedule = make_schedule(settings, num_steps=8)
    # 2 * (0.1 + 0.9 * (1 + cos(pi t / 8)) / 2): at t = 4 the cosine is 0
    np.testing.assert_allclose([schedule(t) for t in (0, 4, 8)], [2.0, 1.1, 0.2], rtol=1e-6)


@pytest.mark.parametrize("warmup_steps", [-1, 10, 11])
def test_a_warmup_that_does_not_fit_the_run_is_refused(warmup_steps):
    with pytest.raises(UserError, match=r"optimizer.warmup_steps=.* less than num_steps=10"):
        make_schedule(OptimizerSettings(warmup_steps=warmup_steps), num_steps=10)


@pytest.mark.parametrize(
    "settings", [{"learning_rate": -1e-5}, {"learning_rate": float("nan")}, {"b1": 1.0}, {"b2": -0.1}, {"eps": 0.0}]
)
def test_constants_that_adamw_cannot_use_are_refused(settings):
    with pytest.raises(UserError, match=f"optimizer.{next(iter(settings))}="):
        OptimizerSettings(**settings)


def test_two_adamw_steps_worked_by_hand():
    settings = OptimizerSettings(
        learning_rate=0.1,
        warmup_steps=0,
        schedule="constant",
        weight_decay=0.5,
        b1=0.9,
        b2=0.99,
        eps=1e-8,
        clip_norm=None,
    )
    optimizer, _ = make_optimizer(settings, num_steps=10)
    theta, m, v = 2.0, 0.0, 0.0
    params = {"w": jnp.array([theta])}
    state = optimizer.init(params)
    for t, g in enumerate([3.0, -1.0], start=1):
        updates, state = optimizer.update({"w": jnp.array([g])}, state, params)
        params = optax.apply_updates(params, updates)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        theta -= 0.1 * ((m / (1 - 0.9**t)) / ((v / (1 - 0.99**t)) ** 0.5 + 1e-8) + 0.5 * theta)
        np.testing.assert_allclose(params["w"], [theta], rtol=1e-5)


def test_clipping_comes_before_adam_and_uses_the_global_norm():
    settings = OptimizerSettings(
        learning_rate=1.0, warmup_steps=0, schedule="constant", b1=0.0, b2=0.0, eps=1.0, clip_norm=1.0
    )
    optimizer, _ = make_optimizer(settings, num_steps=1)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    updates, _ = optimizer.update({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, optimizer.init(params), params)
    # norm 5 clips to (0.6, 0.8); with b1 = b2 = 0 and eps = 1 the update is -g / (|g| + 1)
    np.testing.assert_allclose(updates["a"], [-0.6 / 1.6], rtol=1e-5)
    np.testing.assert_allclose(updates["b"], [-0.8 / 1.8], rtol=1e-5)


def test_norm_scales_are_not_decayed():
    params = {"layers": {"attn_norm": {"scale": 1}, "attn": {"q": 1}}, "final_norm": {"scale": 1}, "embedding": 1}
    assert decay_mask(params) == {
        "layers": {"attn_norm": {"scale": False}, "attn": {"q": True}},
        "final_norm": {"scale": False},
        "embedding": True,
    }


def test_the_first_moment_can_be_bfloat16():
    optimizer, _ = make_optimizer(OptimizerSettings(moment_dtype="bfloat16"), num_steps=1000)
    state = optimizer.init({"w": jnp.zeros(3)})
    (adam,) = [s for s in jax.tree.leaves(state, is_leaf=_is_adam) if _is_adam(s)]
    assert (adam.mu["w"].dtype, adam.nu["w"].dtype) == (jnp.bfloat16, jnp.float32)


def _is_adam(node):
    return isinstance(node, optax.ScaleByAdamState)
