"""The update is that of the responses, however they are packed, cut into micro-batches and spread over devices."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from phi4r.model.config import ModelConfig
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer, init_params
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.objective import grpo_terms
from phi4r.rl.scoring import Scorer
from phi4r.rl.trajectories import PackedShape, pack_trajectories, rows_in_use
from phi4r.sharding import MeshSettings, batch_shards, make_mesh
from phi4r.train.setup import params_on_mesh, rows_to_mesh
from phi4r.train.step import LossSum, Mean, mean_metrics, sum_gradients
from tests.rl.test_trajectories import random_samples

CONFIG = ModelConfig(
    vocab_size=104, num_layers=1, embed_dim=16, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=24, init_std=0.3
)
NUM, PROMPT, RESPONSE = 12, 4, 8
SAMPLES = random_samples(NUM, PROMPT, RESPONSE, seed=4)
# The random policies below give a token -4.6 nats or so: ratios lie on both sides of 1.
LOGPROBS = np.random.default_rng(5).normal(-4.6, 0.5, SAMPLES.logprobs.shape).astype(np.float32)
SAMPLES = SAMPLES.replace(logprobs=np.where(SAMPLES.response_mask, LOGPROBS, 0.0).astype(np.float32))
ADVANTAGES = np.random.default_rng(6).normal(size=NUM).astype(np.float32)
SCORED = GrpoSettings(kl_beta=0.3, entropy_gamma=0.2, temperature=0.8, old_logprobs="trainer")
FAMILY = (
    SCORED,
    dataclasses.replace(SCORED, ratio="sequence", clip_low=0.1, sequence_mask=1.6),
    dataclasses.replace(SCORED, surrogate="cispo", aggregation="token_mean", importance_cap=1.2),
    dataclasses.replace(SCORED, aggregation="constant_length", length_constant=RESPONSE, dual_clip=1.3),
)


@functools.cache
def initial(seed):
    return jax.device_get(jax.jit(lambda key: init_params(CONFIG, key))(jax.random.key(seed)))


def family_loss(params, given):
    """The losses of the whole family in one: a weighted sum, in which none can hide another."""
    logprobs, entropy = token_logprobs(
        Transformer(CONFIG), params, given.batch, chunk_size=8, temperature=SCORED.temperature
    )
    members = [grpo_terms(logprobs, entropy, given, settings) for settings in FAMILY]
    metrics = {f"{name} {i}": value for i, member in enumerate(members) for name, value in member.metrics.items()}
    metrics |= {f"loss {i}": Mean(member.total, member.weight) for i, member in enumerate(members)}
    return LossSum(sum((i + 1) * member.total for i, member in enumerate(members)), members[0].weight, metrics)


def gradients(*, row_length=0, num_microbatches=1, order=None, mesh=None):
    """Metrics and gradients of one update on all responses; reference and old policy have other parameters."""
    mesh = make_mesh(MeshSettings(), jax.devices()[:1]) if mesh is None else make_mesh(mesh, heads=CONFIG.heads)
    shape = PackedShape.fitting(
        NUM,
        PROMPT + RESPONSE,
        row_length=row_length,
        num_microbatches=num_microbatches,
        row_shards=batch_shards(mesh),
        context=mesh.shape["context"],
    )
    cost = {"num_microbatches": num_microbatches}
    with jax.set_mesh(mesh):
        shardings = jax.tree.map(lambda leaf: leaf.sharding, params_on_mesh(CONFIG, mesh))
        params, reference, old = (jax.device_put(initial(seed), shardings) for seed in (0, 1, 2))
        packed = pack_trajectories(SAMPLES, ADVANTAGES, shape, np.arange(NUM) if order is None else order)
        given = Scorer(CONFIG, SCORED, chunk_size=8, **cost)(rows_to_mesh(packed, mesh), old, reference)

        @jax.jit
        def sums(params, given):
            return sum_gradients(family_loss, params, given, shardings=shardings, rows_in_use=rows_in_use, **cost)

        total, grads = sums(params, given)
        return jax.device_get((mean_metrics(total), total.weight, grads))


@pytest.fixture(scope="module")
def apart():
    """Every response in a row of its own, all at once, on one device."""
    return gradients()


@pytest.mark.parametrize(
    "how",
    [
        {"row_length": 17, "num_microbatches": 3, "order": np.arange(NUM)[::-1]},
        {"row_length": 32, "num_microbatches": 2, "mesh": MeshSettings(fsdp=2, context=2, tensor=2)},
    ],
    ids=["one device", "mesh"],
)
def test_the_update_does_not_depend_on_packing_order_micro_batches_or_mesh(apart, how):
    (metrics, weight, grads), (expected, expected_weight, expected_grads) = gradients(**how), apart
    assert weight == pytest.approx(expected_weight)
    assert metrics.keys() == expected.keys()
    for name in metrics:
        assert metrics[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-5), name
    for grad, other in zip(jax.tree.leaves(grads), jax.tree.leaves(expected_grads), strict=True):
        np.testing.assert_allclose(grad, other, rtol=0, atol=1e-5 * np.abs(other).max())


def test_the_case_clips_and_masks_something(apart):
    metrics = apart[0]
    for i in range(len(FAMILY)):
        assert metrics[f"clip_low {i}"] + metrics[f"clip_high {i}"] > 0
    assert metrics["clip_dual 3"] > 0
    assert 0 < metrics["masked_share 1"] < 1
