import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import ModelConfig
from phi4r.model.inputs import TokenBatch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer, init_params
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.objective import grpo_terms, make_grpo_loss
from phi4r.rl.trajectories import Trajectories
from phi4r.train.step import join_sums

jitted_terms = jax.jit(grpo_terms, static_argnames="settings")
PLAIN = GrpoSettings(kl_beta=0.0, entropy_gamma=0.0)  # the surrogate alone


def trajectories(mask, advantages, sampler=None, ref=None, old=None, segments=None, dtype=jnp.float32) -> Trajectories:
    """Trajectories whose arrays are given as nested lists; tokens do not matter here.

    Advantages are per row, or per token where rows hold several responses.
    """
    mask = jnp.asarray(mask, dtype)
    nothing = jnp.zeros(mask.shape, jnp.int32)
    segments = nothing + 1 if segments is None else jnp.asarray(segments, jnp.int32)
    advantages = jnp.asarray(advantages, dtype)
    return Trajectories(
        batch=TokenBatch(nothing, nothing, segments, nothing, mask),
        sampler_logprobs=jnp.zeros_like(mask) if sampler is None else jnp.asarray(sampler, dtype),
        ref_logprobs=jnp.zeros_like(mask) if ref is None else jnp.asarray(ref, dtype),
        advantages=jnp.broadcast_to(advantages[:, None] if advantages.ndim == 1 else advantages, mask.shape),
        old_logprobs=None if old is None else jnp.asarray(old, dtype),
    )


def terms(logprobs, given, settings, entropy=None):
    logprobs = jnp.asarray(logprobs, given.advantages.dtype)
    entropy = jnp.zeros_like(logprobs) if entropy is None else jnp.asarray(entropy, logprobs.dtype)
    return jitted_terms(logprobs, entropy, given, settings)


def metric(sums, name) -> float:
    return float(sums.metrics[name].total / sums.metrics[name].weight)


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


@pytest.mark.parametrize(
    ("ratio", "advantage", "changes", "objective"),
    [
        (1.5, 1.0, {"clip_high": 0.28}, 1.28),  # the bounds are apart
        (0.5, -1.0, {"clip_high": 0.28}, -0.8),
        (0.1, -1.0, {"clip_low": 1.0}, -0.1),  # no bound below
        (5.0, -1.0, {}, -5.0),
        (5.0, -2.0, {"dual_clip": 3.0}, -6.0),  # a bad response is punished by no more than 3 A
        (2.0, -2.0, {"dual_clip": 3.0}, -4.0),
        (5.0, 1.0, {"dual_clip": 3.0}, 1.2),
        (1.5, 1.0, {"surrogate": "cispo"}, 1.2 * -3.0 + 1.2 * np.log(1.5)),  # weight times log p
        (0.5, 2.0, {"surrogate": "cispo"}, 0.8 * 2.0 * (-3.0 + np.log(0.5))),
    ],
)
def test_other_bounds_and_surrogates_of_one_token_by_hand(ratio, advantage, changes, objective):
    given = trajectories([[1]], [advantage], sampler=[[-3.0]])
    sums = terms([[-3.0 + np.log(ratio)]], given, dataclasses.replace(PLAIN, **changes))
    assert float(sums.total) == pytest.approx(-objective, rel=1e-5)


def test_cispo_keeps_the_gradient_of_clipped_tokens_with_a_clipped_weight():
    settings = dataclasses.replace(PLAIN, surrogate="cispo", clip_low=1.0, clip_high=1.0, aggregation="token_mean")
    given = trajectories([[1, 1, 1, 0]], [-2.0])
    log_ratios = jnp.log(jnp.array([[3.0, 0.1, 1.0, 7.0]]))
    grad = jax.grad(lambda x: jitted_terms(x, jnp.zeros_like(x), given, settings).total)(log_ratios)
    np.testing.assert_allclose(grad, [[2 * 2.0, 2 * 0.1, 2 * 1.0, 0.0]], rtol=1e-5)
    assert metric(terms(log_ratios, given, settings), "clip_high") == pytest.approx(1 / 3)


def test_the_ratio_of_a_response_is_the_geometric_mean_of_its_tokens():
    # Ratios 4 and 1 with A = 1: 2, clipped to 1.5 in both tokens. 1/8, 1, 1 with A = -1: 1/2. One token: itself.
    settings = dataclasses.replace(PLAIN, ratio="sequence", clip_low=0.6, clip_high=0.5)
    given = trajectories([[1, 1, 0], [1, 1, 1], [0, 1, 0]], [1.0, -1.0, 1.0])
    sums = terms(np.log([[4.0, 1.0, 9.0], [1 / 8, 1.0, 1.0], [9.0, 1.25, 9.0]]), given, settings)
    assert float(sums.total) == pytest.approx(-(1.5 - 0.5 + 1.25), rel=1e-5)
    assert float(sums.weight) == 3.0
    assert metric(sums, "ratio") == pytest.approx((2 * 2.0 + 3 * 0.5 + 1.25) / 6, rel=1e-5)
    assert metric(sums, "clip_high") == pytest.approx(2 / 6)


def test_importance_weights_are_those_of_the_trainer_before_the_update_and_are_truncated():
    # Policy/old is 1.1 throughout; old/sampler is 1.5, 4 (truncated to 2) and 0.5.
    settings = dataclasses.replace(PLAIN, old_logprobs="trainer", importance_cap=2.0, aggregation="token_mean")
    sampler, old = np.full((1, 3), -2.0), -2.0 + np.log([[1.5, 4.0, 0.5]])
    sums = terms(old + np.log(1.1), trajectories([[1, 1, 1]], [1.0], sampler=sampler, old=old), settings)
    assert float(sums.total) == pytest.approx(-1.1 * (1.5 + 2.0 + 0.5), rel=1e-5)
    assert metric(sums, "ratio") == pytest.approx(1.1, rel=1e-5)
    assert metric(sums, "importance") == pytest.approx(1.1 * 6.0 / 3, rel=1e-5)


@pytest.mark.parametrize("old", ["sampler", "trainer"])
def test_a_response_whose_geometric_mean_is_out_of_bounds_is_masked_but_keeps_its_weight(old):
    # Means of 2 (ratios 4 and 1), 1/2 and 1.05 against the bound 1.5; entropy is rewarded in all of them.
    settings = GrpoSettings(kl_beta=0.0, entropy_gamma=1.0, old_logprobs=old, sequence_mask=1.5, clip_high=0.5)
    mask = [[1, 1], [1, 0], [1, 1]]
    drawn = np.log([[4.0, 1.0], [0.5, 1.0], [1.05, 1.05]])
    given = trajectories(mask, [1.0, -1.0, 3.0], old=drawn if old == "trainer" else None)
    sums = terms(drawn, given, settings, entropy=jnp.full((3, 2), 0.25))
    ratio = 1.0 if old == "trainer" else 1.05
    assert float(sums.total) == pytest.approx(-(3.0 * ratio + 3 * 0.25), rel=1e-5)
    assert float(sums.weight) == 3.0
    assert metric(sums, "masked_share") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("changes", "total", "weight"),
    [
        ({"aggregation": "sequence_mean"}, 0.0, 2.0),
        ({"aggregation": "token_mean"}, 2.0, 4.0),
        ({"aggregation": "constant_length", "length_constant": 8}, 2 / 8, 2.0),
    ],
)
def test_aggregation_of_unequal_responses_by_hand(changes, total, weight):
    # At ratio 1 a response of one token with A = 1 and one of three with A = -1; in rows of their own and in one row.
    settings = dataclasses.replace(PLAIN, **changes)
    apart = trajectories([[0, 1, 0, 0], [1, 1, 1, 0]], [1.0, -1.0])
    packed = trajectories([[0, 1, 0, 1, 1, 1]], [[1.0, 1.0, -1.0, -1.0, -1.0, -1.0]], segments=[[1, 1, 2, 2, 2, 2]])
    for given in (apart, packed):
        sums = terms(jnp.zeros(given.advantages.shape), given, settings)
        assert float(sums.total) == pytest.approx(total, abs=1e-6)
        assert float(sums.weight) == weight
        assert metric(sums, "advantage_abs") == pytest.approx(1.0)


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


FAMILY = [
    {},
    {"kl_estimator": "k1", "aggregation": "token_mean", "clip_high": 0.5},
    {"kl_estimator": "k2", "aggregation": "constant_length", "length_constant": 7},
    {"ratio": "sequence", "clip_low": 0.05, "clip_high": 0.1},
    {"ratio": "sequence", "aggregation": "token_mean", "clip_low": 0.05},
    {"dual_clip": 1.3, "clip_low": 0.1},
    {"old_logprobs": "trainer", "importance_cap": 1.1, "sequence_mask": 1.5},
    {"sequence_mask": 1.5},
]


@pytest.mark.parametrize("changes", FAMILY, ids=str)
def test_gradient_agrees_with_finite_differences(changes):
    settings = GrpoSettings(**{"kl_beta": 0.3, "entropy_gamma": 0.2, **changes})
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        scores = rng.normal(size=(3, 4, 3))
        current = np.asarray(toy_policy(jnp.asarray(scores))[0])

        def moved(scale):
            return current + rng.normal(scale=scale, size=(3, 4))

        given = trajectories(
            [[1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 0, 0]],
            [[1.0, 1.0, -1.5, -1.5], [-2.0] * 4, [0.5, 1.0, 1.0, 0.0]],
            sampler=moved(0.4),  # ratios on both sides of the clip
            ref=moved(0.7),
            old=moved(0.3) if settings.old_logprobs == "trainer" else None,
            segments=[[1, 1, 2, 2], [1, 1, 1, 1], [1, 2, 2, 0]],
            dtype=jnp.float64,
        )

        def loss(scores):
            sums = grpo_terms(*toy_policy(scores), given, settings)
            return sums.total / sums.weight, sums.metrics

        evaluate = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (_, metrics), grad = jax.device_get(evaluate(scores))
        numeric = np.zeros_like(scores)
        for index in np.ndindex(scores.shape):
            step = np.zeros_like(scores)
            step[index] = 1e-6
            numeric[index] = (evaluate(scores + step)[0][0] - evaluate(scores - step)[0][0]) / 2e-6
    np.testing.assert_allclose(grad, numeric, atol=1e-8)
    assert float(metrics["clip_low"].total + metrics["clip_high"].total) > 0  # or the clip was not tried
    assert "clip_dual" not in metrics or float(metrics["clip_dual"].total) > 0
    assert "masked_share" not in metrics or 0 < float(metrics["masked_share"].total) < 5
    assert np.all(grad[0, 2] == 0) and np.all(grad[2, 2:] == 0)


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
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(functools.reduce(join_sums, parts)), strict=True):
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
    assert float(sums.metrics["ratio_max"].value) == pytest.approx(1.5)
    assert metric(sums, "logprob_gap") == pytest.approx((2 * np.log(1.5) + np.log(2)) / 5, rel=1e-5)
    assert float(sums.metrics["logprob_gap_max"].value) == pytest.approx(np.log(2), rel=1e-5)
    assert metric(sums, "importance_squared") == pytest.approx((2 * 1.5**2 + 0.5**2 + 2) / 5, rel=1e-5)
    assert metric(sums, "advantage_abs") == pytest.approx(1.5)


def test_without_a_penalty_no_reference_is_needed():
    given = trajectories([[1, 1]], [1.0]).replace(ref_logprobs=None)
    assert "kl" not in terms(jnp.zeros((1, 2)), given, PLAIN).metrics


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
    advantages = jnp.broadcast_to(jnp.array([[1.0], [-0.5], [2.0]]), logprobs.shape)
    return Trajectories(batch, logprobs, logprobs, advantages)


def test_on_policy_gradient_is_the_policy_gradient(policy):
    model, params, batch = policy
    given = on_policy(policy, 0.8)
    settings = dataclasses.replace(PLAIN, temperature=0.8)
    loss_fn = make_grpo_loss(model, settings, chunk_size=4)

    def reinforce(params):  # -sum_i A_i / |o_i| sum_t log p
        logprobs, _ = token_logprobs(model, params, batch, chunk_size=7, temperature=0.8)
        lengths = batch.loss_mask.sum(axis=1, keepdims=True)
        return -(given.advantages * logprobs * batch.loss_mask / lengths).sum()

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
    assert float(same.metrics["ratio_max"].value) == pytest.approx(1.0, abs=1e-5)
    assert float(same.metrics["logprob_gap_max"].value) == pytest.approx(0.0, abs=1e-5)
    assert metric(same, "kl") == pytest.approx(0.0, abs=1e-6)
    assert metric(other, "logprob_gap") > 1e-2
