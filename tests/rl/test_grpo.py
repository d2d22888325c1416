import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from phi4r.errors import UserError
from phi4r.model.config import ModelConfig
from phi4r.model.inputs import TokenBatch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer, init_params
from phi4r.rl.grpo import GrpoSettings, group_advantages, grpo_terms, make_grpo_loss
from phi4r.rl.trajectories import Trajectories
from phi4r.train.state import create_state
from phi4r.train.step import make_update_fn

jitted_terms = jax.jit(grpo_terms, static_argnames="settings")
PLAIN = GrpoSettings(kl_beta=0.0, entropy_gamma=0.0)  # the surrogate alone


def trajectories(mask, advantages, sampler=None, ref=None, dtype=jnp.float32) -> Trajectories:
    """Trajectories whose per-token arrays are given as nested lists; tokens do not matter here."""
    mask = jnp.asarray(mask, dtype)
    nothing = jnp.zeros(mask.shape, jnp.int32)
    return Trajectories(
        batch=TokenBatch(nothing, nothing, nothing, nothing, mask),
        sampler_logprobs=jnp.zeros_like(mask) if sampler is None else jnp.asarray(sampler, dtype),
        ref_logprobs=jnp.zeros_like(mask) if ref is None else jnp.asarray(ref, dtype),
        advantages=jnp.asarray(advantages, dtype),
    )


def terms(logprobs, given, settings, entropy=None):
    logprobs = jnp.asarray(logprobs, given.advantages.dtype)
    entropy = jnp.zeros_like(logprobs) if entropy is None else jnp.asarray(entropy, logprobs.dtype)
    return jitted_terms(logprobs, entropy, given, settings)


def metric(sums, name) -> float:
    return float(sums.metrics[name].total / sums.metrics[name].weight)


# Advantages


@pytest.mark.parametrize(("std", "hit", "miss"), [("population", 2.6457, -0.3780), ("sample", 2.4749, -0.3536)])
def test_one_hit_in_eight_by_hand(std, hit, miss):
    rewards = np.array([1, 0, 0, 0, 0, 0, 0, 0], np.float32)
    advantages, zero_spread = group_advantages(rewards, group_size=8, std=std, eps=1e-6)
    np.testing.assert_allclose(advantages, [hit] + [miss] * 7, atol=1e-4)
    assert zero_spread.tolist() == [False]


def test_without_std_the_advantage_is_the_centred_reward():
    rewards = np.array([1, 0, 0, 0, 3, 3, 3, 5], np.float32)
    advantages, _ = group_advantages(rewards, group_size=4, std="none", eps=1e-6)
    np.testing.assert_allclose(advantages, [0.75, -0.25, -0.25, -0.25, -0.5, -0.5, -0.5, 1.5], atol=1e-6)


def test_eps_is_added_to_the_standard_deviation():
    # mean 1, population deviation 1, eps 1: half of the unit advantages.
    advantages, _ = group_advantages(np.array([0, 2], np.float32), group_size=2, std="population", eps=1.0)
    np.testing.assert_allclose(advantages, [-0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize("std", ["population", "sample", "none"])
@pytest.mark.parametrize("group_size", [3, 7, 8])
def test_groups_without_spread_get_exactly_zero_and_are_counted(std, group_size):
    # Equal rewards whose float32 mean is off by a rounding error for some of these sizes and values.
    values = np.array([8 / 13, 0.1, -1 / 3, 1e-8, 0.7], np.float32)
    rewards = np.concatenate([np.repeat(values, group_size), np.arange(group_size, dtype=np.float32)])
    advantages, zero_spread = group_advantages(rewards, group_size=group_size, std=std, eps=0.0)
    assert np.all(np.asarray(advantages[:-group_size]) == 0.0)
    assert zero_spread.tolist() == [True] * 5 + [False]
    assert np.all(np.isfinite(advantages))


def test_groups_do_not_see_each_other():
    rewards = np.random.default_rng(0).normal(size=12).astype(np.float32)
    together, _ = group_advantages(rewards, group_size=4, std="sample", eps=1e-6)
    apart = [group_advantages(rewards[i : i + 4], group_size=4, std="sample", eps=1e-6)[0] for i in (0, 4, 8)]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-6)


def test_rows_that_are_not_whole_groups_are_refused():
    with pytest.raises(UserError, match="10 rewards are not whole groups"):
        group_advantages(np.zeros(10, np.float32), group_size=8, std="population", eps=1e-6)


# The objective


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective"),
    [
        (1.0, 2.0, 2.0),
        (1.5, 1.0, 1.2),  # a better response may not gain by more than 1 + eps
        (1.5, -1.0, -1.5),  # a worse one made likelier is punished in full
        (0.5, 1.0, 0.5),
        (0.5, -1.0, -0.8),  # a worse one made unlikelier gains nothing below 1 - eps
        (1.1, 1.0, 1.1),
        (0.9, -1.0, -0.9),
    ],
)
def test_clipped_surrogate_of_one_token_by_hand(ratio, advantage, objective):
    given = trajectories([[1]], [advantage], sampler=[[-3.0]])
    sums = terms([[-3.0 + np.log(ratio)]], given, PLAIN)
    assert float(sums.total) == pytest.approx(-objective, rel=1e-5)
    assert float(sums.weight) == 1.0


@pytest.mark.parametrize(("aggregation", "total", "weight"), [("sequence_mean", 0.0, 2.0), ("token_mean", 2.0, 4.0)])
def test_aggregation_of_unequal_rows_by_hand(aggregation, total, weight):
    # At ratio 1 a row of one token with A = 1 and a row of three with A = -1.
    settings = dataclasses.replace(PLAIN, aggregation=aggregation)
    sums = terms(jnp.zeros((2, 4)), trajectories([[0, 1, 0, 0], [1, 1, 1, 0]], [1.0, -1.0]), settings)
    assert float(sums.total) == pytest.approx(total, abs=1e-6)
    assert float(sums.weight) == weight


@pytest.mark.parametrize(("estimator", "kl"), [("k1", 0.693147), ("k2", 0.240227), ("k3", 0.193147)])
def test_kl_estimators_where_the_policy_is_twice_as_sure_as_the_reference(estimator, kl):
    settings = GrpoSettings(kl_beta=0.5, entropy_gamma=0.0, kl_estimator=estimator)
    given = trajectories([[1]], [0.0], sampler=[[-1.0]], ref=[[-1.0 - np.log(2)]])
    sums = terms([[-1.0]], given, settings)
    assert metric(sums, "kl") == pytest.approx(kl, abs=1e-6)
    assert float(sums.total) == pytest.approx(0.5 * kl, abs=1e-6)


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean"])
def test_entropy_bonus_does_not_grow_with_length(aggregation):
    settings = GrpoSettings(kl_beta=0.0, entropy_gamma=0.1, aggregation=aggregation)
    for length in (1, 2, 8):
        mask = jnp.arange(8)[None] < length
        sums = terms(jnp.zeros((1, 8)), trajectories(mask, [0.0]), settings, entropy=jnp.full((1, 8), 0.7))
        assert float(sums.total / sums.weight) == pytest.approx(-0.07, abs=1e-7)
        assert metric(sums, "entropy") == pytest.approx(0.7, abs=1e-6)


def test_k3_is_clamped_where_it_would_overflow():
    settings = GrpoSettings(kl_beta=1.0, entropy_gamma=0.0)
    given = trajectories([[1]], [0.0], sampler=[[-100.0]], ref=[[-1.0]])  # ref/p = e^99
    assert float(terms([[-100.0]], given, settings).total) == pytest.approx(np.expm1(20.0) - 20.0, rel=1e-6)


@pytest.mark.parametrize("gap", [-1e4, -100.0, 100.0, 1e4])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_loss_and_gradient_stay_finite_at_extreme_log_ratios(gap, estimator):
    settings = GrpoSettings(kl_estimator=estimator)
    given = trajectories([[1, 1]], [1.0], sampler=[[-1.0, -1.0]], ref=[[-1.0, -1.0]])
    value, grad = jax.value_and_grad(lambda x: terms(x, given, settings).total)(jnp.array([[-1.0 + gap, -1.0]]))
    assert np.isfinite(value)
    assert np.all(np.isfinite(grad))


# Gradients


def toy_policy(scores):
    """Log-probabilities and entropy of a table of scores [B T V], where token 0 is always drawn."""
    logprobs = jax.nn.log_softmax(scores)
    return logprobs[..., 0], -jnp.sum(jnp.exp(logprobs) * logprobs, axis=-1)


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean"])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_gradient_agrees_with_finite_differences(aggregation, estimator):
    settings = GrpoSettings(kl_beta=0.3, entropy_gamma=0.2, aggregation=aggregation, kl_estimator=estimator)
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        scores = rng.normal(size=(3, 4, 3))
        current = np.asarray(toy_policy(jnp.asarray(scores))[0])
        given = trajectories(
            [[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 0, 0]],
            [1.0, -2.0, 0.5],
            sampler=current + rng.normal(scale=0.4, size=(3, 4)),  # ratios on both sides of the clip
            ref=current + rng.normal(scale=0.7, size=(3, 4)),
            dtype=jnp.float64,
        )

        @jax.jit
        def loss(scores):
            sums = grpo_terms(*toy_policy(scores), given, settings)
            return sums.total / sums.weight

        grad = np.asarray(jax.grad(loss)(jnp.asarray(scores)))
        numeric = np.zeros_like(scores)
        for index in np.ndindex(scores.shape):
            step = np.zeros_like(scores)
            step[index] = 1e-6
            numeric[index] = (loss(jnp.asarray(scores + step)) - loss(jnp.asarray(scores - step))) / 2e-6
        clipped = jitted_terms(*toy_policy(jnp.asarray(scores)), given, settings).metrics
    np.testing.assert_allclose(grad, numeric, atol=1e-8)
    assert float(clipped["clip_low"].total + clipped["clip_high"].total) > 0  # or the clip was not tried
    assert np.all(grad[0, 2:] == 0)


def test_entropy_bonus_alone_makes_the_policy_flatter():
    settings = GrpoSettings(kl_beta=0.0, entropy_gamma=1.0)
    given = trajectories([[1, 1]], [0.0])
    scores = jnp.array([[[2.0, 0.0, -1.0], [0.5, 0.0, 0.0]]])
    grad = jax.grad(lambda s: jitted_terms(*toy_policy(s), given, settings).total)(scores)
    before, after = (toy_policy(s)[1] for s in (scores, scores - 0.1 * grad))
    assert np.all(after > before)


# Invariance


def random_case(seed=0):
    rng = np.random.default_rng(seed)
    mask = np.arange(6)[None] < np.array([1, 6, 3, 2, 5, 4])[:, None]
    arrays = [rng.normal(scale=0.3, size=(6, 6)).astype(np.float32) for _ in range(4)]
    return mask, rng.normal(size=6).astype(np.float32), arrays


def evaluate(mask, advantages, arrays, settings, rows=slice(None)):
    logprobs, sampler, ref, entropy = (a[rows] for a in arrays)
    return terms(logprobs, trajectories(mask[rows], advantages[rows], sampler, ref), settings, entropy)


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean"])
def test_unequal_micro_batches_add_up_to_the_whole(aggregation):
    settings = GrpoSettings(kl_beta=0.3, entropy_gamma=0.2, aggregation=aggregation)
    case = random_case()
    whole = evaluate(*case, settings)
    parts = [evaluate(*case, settings, rows) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
    for left, right in zip(
        jax.tree.leaves(whole), jax.tree.leaves(jax.tree.map(lambda *x: sum(x), *parts)), strict=True
    ):
        np.testing.assert_allclose(left, right, atol=1e-5)


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean"])
def test_padding_empty_rows_and_order_change_nothing(aggregation):
    settings = GrpoSettings(kl_beta=0.3, entropy_gamma=0.2, aggregation=aggregation)
    mask, advantages, arrays = random_case()
    order = np.array([3, 0, 5, 1, 4, 2])
    # Two columns and a row without response tokens, filled with numbers that must not be seen.
    padded = [np.pad(a[order], ((0, 1), (1, 1)), constant_values=50.0) for a in arrays]
    padded_mask = np.pad(mask[order], ((0, 1), (1, 1)))
    padded_advantages = np.append(advantages[order], 1e3).astype(np.float32)
    left = evaluate(mask, advantages, arrays, settings)
    right = evaluate(padded_mask, padded_advantages, padded, settings)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_rows_without_response_tokens_weigh_nothing():
    sums = terms(jnp.ones((2, 3)), trajectories(np.zeros((2, 3)), [1.0, -1.0]), GrpoSettings())
    assert float(sums.total) == 0.0
    assert float(sums.weight) == 0.0


# Metrics


def test_metrics_by_hand():
    # Ratios 1.5, 1 (A = 1) and 0.5, 1.5, 1 (A = -2): one token clipped above, one below.
    given = trajectories([[1, 1, 0], [1, 1, 1]], [1.0, -2.0])
    sums = terms(np.log([[1.5, 1.0, 9.0], [0.5, 1.5, 1.0]]), given, GrpoSettings())
    assert metric(sums, "clip_high") == pytest.approx(1 / 5)
    assert metric(sums, "clip_low") == pytest.approx(1 / 5)
    assert metric(sums, "ratio") == pytest.approx(5.5 / 5)
    assert metric(sums, "ratio_row_max") == pytest.approx(1.5)
    assert metric(sums, "logprob_gap") == pytest.approx((2 * np.log(1.5) + np.log(2)) / 5, rel=1e-5)
    assert metric(sums, "logprob_gap_row_max") == pytest.approx((np.log(1.5) + np.log(2)) / 2, rel=1e-5)
    assert metric(sums, "advantage_abs") == pytest.approx(1.5)


# With a model


@pytest.fixture(scope="module")
def policy():
    """A small model, its parameters, and a batch of three responses to prompts of two tokens."""
    config = ModelConfig(
        vocab_size=13, num_layers=1, embed_dim=16, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=24, init_std=0.3
    )
    rng = np.random.default_rng(0)
    rows, length = 3, 7
    segments = np.ones((rows, length), np.int32)
    batch = TokenBatch(
        tokens=jnp.asarray(rng.integers(1, 13, (rows, length)), jnp.int32),
        targets=jnp.asarray(rng.integers(1, 13, (rows, length)), jnp.int32),
        segment_ids=jnp.asarray(segments),
        positions=jnp.asarray(np.cumsum(segments, axis=1) - 1),
        loss_mask=jnp.asarray(
            (np.arange(length)[None] >= 1) & (np.arange(length)[None] < [[7], [4], [2]]), jnp.float32
        ),
    )
    return Transformer(config), jax.jit(lambda key: init_params(config, key))(jax.random.key(0)), batch


def on_policy(policy, temperature) -> Trajectories:
    model, params, batch = policy
    logprobs, _ = jax.jit(lambda p: token_logprobs(model, p, batch, chunk_size=4, temperature=temperature))(params)
    return Trajectories(batch, logprobs, logprobs, jnp.array([1.0, -0.5, 2.0]))


def test_on_policy_gradient_is_the_policy_gradient(policy):
    model, params, batch = policy
    given = on_policy(policy, 0.8)
    settings = dataclasses.replace(PLAIN, temperature=0.8)
    loss_fn = make_grpo_loss(model, settings, chunk_size=4)

    def reinforce(params):  # -sum_i A_i / |o_i| sum_t log p
        logprobs, _ = token_logprobs(model, params, batch, chunk_size=7, temperature=0.8)
        lengths = batch.loss_mask.sum(axis=1, keepdims=True)
        return -(given.advantages[:, None] * logprobs * batch.loss_mask / lengths).sum()

    left = jax.jit(jax.grad(lambda p: loss_fn(p, given).total))(params)
    right = jax.jit(jax.grad(reinforce))(params)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(right)) > 1e-2
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_on_policy_ratio_is_one_and_kl_zero_only_at_the_rollout_temperature(policy):
    model, params, _ = policy
    given = on_policy(policy, 0.8)
    same = jax.jit(make_grpo_loss(model, GrpoSettings(temperature=0.8), chunk_size=4))(params, given)
    other = jax.jit(make_grpo_loss(model, GrpoSettings(temperature=1.0), chunk_size=4))(params, given)
    assert metric(same, "ratio_row_max") == pytest.approx(1.0, abs=1e-5)
    assert metric(same, "logprob_gap_row_max") == pytest.approx(0.0, abs=1e-5)
    assert metric(same, "kl") == pytest.approx(0.0, abs=1e-6)
    assert metric(other, "logprob_gap") > 1e-2


def rearranged(given: Trajectories) -> Trajectories:
    """The rows in another order, two columns of padding before and one behind, and a row without a response."""

    def change(x):
        x = x[jnp.array([2, 0, 1])]
        return jnp.pad(x, [(0, 1)] + [(2, 1)] * (x.ndim - 1))

    return jax.tree.map(change, given)


@pytest.mark.parametrize(
    ("aggregation", "num_microbatches"), [("sequence_mean", 1), ("sequence_mean", 4), ("token_mean", 2)]
)
def test_the_update_does_not_depend_on_micro_batches_padding_order_or_empty_rows(policy, aggregation, num_microbatches):
    model, params, batch = policy
    settings = GrpoSettings(kl_beta=0.3, entropy_gamma=0.2, aggregation=aggregation, temperature=0.8)
    rng = np.random.default_rng(3)
    given = on_policy(policy, 0.8)
    moved = [given.sampler_logprobs + rng.normal(scale=0.3, size=(3, 7)).astype(np.float32) for _ in range(2)]
    given = Trajectories(batch, *moved, given.advantages)
    loss_fn = make_grpo_loss(model, settings, chunk_size=4)

    def update(given, num_microbatches):
        update_fn = make_update_fn(loss_fn, optax.sgd(1.0), num_microbatches=num_microbatches)
        return update_fn(create_state(jax.tree.map(jnp.array, params), optax.sgd(1.0)), given)

    state, metrics = update(given, 1)
    other, other_metrics = update(rearranged(given), num_microbatches)
    assert float(metrics["grad_norm"]) > 1e-2 and float(metrics["clip_high"] + metrics["clip_low"]) > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), other.params, state.params)
    for name in metrics:
        np.testing.assert_allclose(other_metrics[name], metrics[name], atol=1e-5, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "setting",
    [{"group_size": 1}, {"clip_epsilon": 0.0}, {"clip_epsilon": 1.5}, {"temperature": 0.0}, {"advantage_eps": -1.0}],
)
def test_settings_without_sense_are_refused(setting):
    with pytest.raises(UserError, match="grpo"):
        GrpoSettings(**setting)
