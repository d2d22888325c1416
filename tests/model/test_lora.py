import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.model.config import PHI4, ModelConfig
from phi4r.model.inputs import make_token_batch
from phi4r.model.layouts import unroll_params
from phi4r.model.logprobs import token_logprobs
from phi4r.model.lora import (
    GROUPS,
    Lora,
    init_adapter,
    join_adapter,
    matrix_adapters,
    num_adapter_params,
    split_adapter,
)
from phi4r.model.merge import merge_adapter
from phi4r.model.transformer import Transformer, abstract_params, init_params, param_axes
from phi4r.planning.devices import topology_devices
from phi4r.planning.flops import count_flops
from phi4r.planning.topologies import parse_topology
from phi4r.sharding import MeshSettings, make_mesh, param_shardings
from tests.model.caches import empty_cache

CONFIG = ModelConfig(
    vocab_size=64,
    num_layers=3,
    embed_dim=24,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=40,
    init_std=0.2,
    lora=Lora(rank=4, alpha=6.0),
)


def make_adapter(config, seed=7):
    """An adapter of which B is not zero: one that has learnt something."""
    adapter = init_adapter(split_adapter(abstract_params(config))[1], jax.random.key(seed))
    return jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(seed), x.shape), adapter)


@pytest.fixture(scope="module")
def base():
    return init_params(CONFIG.replace(lora=None), jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    tokens = np.random.default_rng(0).integers(0, 64, (2, 16)).astype(np.int32)
    return make_token_batch(tokens, np.ones_like(tokens), np.ones_like(tokens, bool))


@functools.partial(jax.jit, static_argnums=0)
def logprobs(config, params, batch):
    return token_logprobs(Transformer(config), params, batch, chunk_size=16)[0]


def test_the_adapters_of_phi4_are_counted():
    """Rank 16, a layer: qkv 16 * (5120 + 7680), o 16 * (5120 + 5120), gate and up 16 * (5120 + 2 * 17920), down
    16 * (17920 + 5120): 204,800 + 163,840 + 655,360 + 368,640 = 1,392,640, times 40."""
    config = PHI4.replace(lora=Lora(rank=16, alpha=32.0))
    adapter = split_adapter(abstract_params(config))[1]
    assert num_adapter_params(config) == 55_705_600
    assert sum(leaf.size for leaf in jax.tree.leaves(adapter)) == 55_705_600
    assert {leaf.dtype for leaf in jax.tree.leaves(adapter)} == {jnp.dtype("float32")}
    assert all(leaf.shape[0] == 40 and 16 in leaf.shape for leaf in jax.tree.leaves(adapter))


def test_a_fresh_adapter_changes_nothing_and_a_trained_one_is_a_change_of_weights(base, batch):
    fresh = init_adapter(split_adapter(abstract_params(CONFIG))[1], jax.random.key(1))
    plain = logprobs(CONFIG.replace(lora=None), base, batch)
    np.testing.assert_array_equal(logprobs(CONFIG, join_adapter(base, fresh), batch), plain)
    adapter = make_adapter(CONFIG)
    adapted = logprobs(CONFIG, join_adapter(base, adapter), batch)
    assert float(jnp.abs(adapted - plain).max()) > 0.1
    # W + alpha / rank * A B for the seven matrices, by numpy
    changed = jax.tree.map(np.array, base)
    layers = adapter["layers"]
    for group, b_names in {"qkv": "qkv", "o": "o", "gate_up": ("gate", "up"), "down": ("down",)}.items():
        part = GROUPS[group].module
        for name in b_names:
            a, b = layers[part][f"{group}_lora_a"], layers[part][f"{name}_lora_b"]
            delta = np.stack([np.tensordot(a[i], b[i], axes=1) for i in range(3)])
            changed["layers"][part][name] += 6.0 / 4 * delta
    expected = logprobs(CONFIG.replace(lora=None), changed, batch)
    np.testing.assert_allclose(adapted, expected, atol=2e-5)
    merged = merge_adapter(base, adapter, CONFIG)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=1e-6), merged, changed)


def test_a_matrix_without_an_adapter_keeps_its_array(base):
    config = CONFIG.replace(lora=Lora(rank=2, alpha=2.0, targets=("o",)))
    adapter = split_adapter(abstract_params(config))[1]
    assert set(adapter["layers"]["attn"]) == {"o_lora_a", "o_lora_b"} and "mlp" not in adapter["layers"]
    merged = merge_adapter(base, make_adapter(config), config)
    assert merged["layers"]["mlp"]["gate"] is base["layers"]["mlp"]["gate"]
    assert merged["embedding"] is base["embedding"]
    assert float(jnp.abs(merged["layers"]["attn"]["o"] - base["layers"]["attn"]["o"]).max()) > 0


def test_split_undoes_join_and_shares_every_array(base):
    adapter = make_adapter(CONFIG)
    joined = join_adapter(base, adapter)
    for part, again in zip((base, adapter), split_adapter(joined), strict=True):
        assert jax.tree.structure(part) == jax.tree.structure(again)
        assert all(a is b for a, b in zip(jax.tree.leaves(part), jax.tree.leaves(again), strict=True))
    assert jax.tree.structure(joined) == jax.tree.structure(abstract_params(CONFIG))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_decoding_reads_the_adapters_as_training_does(base, batch, dtype):
    """In bfloat16 too, where a merged weight would lose what the adapter has learnt."""
    config = CONFIG.replace(dtype=dtype)
    params = join_adapter(base, make_adapter(config))
    unrolled = jax.jit(lambda p: unroll_params(p, config))(params)
    shapes = jax.tree.map(
        lambda x: (x.shape, x.dtype), abstract_params(config.replace(param_dtype=dtype), unrolled=True)
    )
    assert jax.tree.map(lambda x: (x.shape, x.dtype), unrolled) == shapes
    cache = empty_cache(config, batch=2, capacity=16)
    rows = (batch.tokens, batch.segment_ids, batch.positions)
    stacked, _ = jax.jit(Transformer(config).apply)({"params": params}, *rows)
    decoded, _ = jax.jit(lambda p: Transformer(config, unrolled=True).apply({"params": p}, *rows, cache))(unrolled)
    np.testing.assert_allclose(decoded.astype("f4"), stacked.astype("f4"), atol=1e-5 if dtype == "float32" else 0.06)


def test_the_gradient_is_that_of_the_weights_through_the_chain_rule(base, batch):
    """dL/dB = s A' dL/dW and dL/dA = s dL/dW B', summed over the matrices that share the A."""
    adapter = make_adapter(CONFIG)
    merged = merge_adapter(base, adapter, CONFIG)
    by_adapter = jax.grad(lambda a: logprobs(CONFIG, join_adapter(base, a), batch).mean())(adapter)
    plain = CONFIG.replace(lora=None)
    by_weight = jax.grad(lambda w: logprobs(plain, w, batch).mean())(merged)["layers"]
    a, b = (
        adapter["layers"]["mlp"]["gate_up_lora_a"],
        {n: adapter["layers"]["mlp"][f"{n}_lora_b"] for n in ("gate", "up")},
    )
    expected_a = 1.5 * sum(jnp.einsum("ldf,lrf->ldr", by_weight["mlp"][n], b[n]) for n in b)
    np.testing.assert_allclose(by_adapter["layers"]["mlp"]["gate_up_lora_a"], expected_a, atol=1e-5)
    for name in b:
        expected = 1.5 * jnp.einsum("ldr,ldf->lrf", a, by_weight["mlp"][name])
        np.testing.assert_allclose(by_adapter["layers"]["mlp"][f"{name}_lora_b"], expected, atol=1e-5)
    q_b, o_a = by_adapter["layers"]["attn"]["q_lora_b"], adapter["layers"]["attn"]["qkv_lora_a"]
    expected = 1.5 * jnp.einsum("ldr,ldkqh->lrkqh", o_a, by_weight["attn"]["q"])
    np.testing.assert_allclose(q_b, expected, atol=1e-5)


def test_a_frozen_base_costs_no_gradient_of_its_own(base, batch):
    """Forward 2 and backward 2 FLOPs for each frozen matrix parameter and token, 6 for those of adapters, and attention
    whole; the first layer's backward pass stops at its adapters."""
    adapter = make_adapter(CONFIG)
    traced = jax.jit(jax.grad(lambda a, w: logprobs(CONFIG, join_adapter(w, a), batch).sum())).trace(adapter, base)
    pairs = 2 * 16 * 16  # the dense backend multiplies the whole square
    assert count_flops(traced.jaxpr).once == pytest.approx(CONFIG.train_flops(32, pairs), rel=0.02)


@pytest.mark.parametrize("mesh", [MeshSettings(fsdp=8), MeshSettings(fsdp=2, tensor=4)])
def test_a_mesh_computes_the_same_gradient(base, batch, mesh):
    adapter = make_adapter(CONFIG)

    def gradient(adapter, base):
        return jax.grad(lambda a: logprobs(CONFIG, join_adapter(base, a), batch).mean())(adapter)

    expected = jax.jit(gradient)(adapter, base)
    mesh = make_mesh(mesh, heads=CONFIG.heads)
    axes, shapes = param_axes(CONFIG), abstract_params(CONFIG)
    shardings = split_adapter(param_shardings(mesh, axes, shapes))
    with jax.set_mesh(mesh):
        ours = jax.jit(gradient)(jax.device_put(adapter, shardings[1]), jax.device_put(base, shardings[0]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours, expected)


def test_impossible_adapters_are_refused():
    with pytest.raises(UserError, match="rank=0"):
        Lora(rank=0, alpha=1.0)
    with pytest.raises(UserError, match="at most once"):
        Lora(rank=4, alpha=1.0, targets=("o", "o"))


def test_every_matrix_of_a_layer_has_its_adapter():
    abstract = abstract_params(CONFIG)
    base, adapter = split_adapter(abstract)
    matrices = {f"layers/{part}/{name}" for part in ("attn", "mlp") for name in base["layers"][part]}
    assert set(matrix_adapters(adapter, CONFIG.lora.targets)) == matrices


def test_a_gpu_does_not_copy_the_weights_beside_an_adapter():
    """Two products of one input tempt the compiler to join them: [W; A] would be made anew in every decode step."""
    pytest.importorskip("jax_plugins.xla_cuda13")
    config = CONFIG.replace(num_layers=1, embed_dim=256, mlp_dim=512, head_dim=64, dtype="bfloat16")
    config = config.replace(param_dtype="bfloat16", attention="dense")
    device = jax.sharding.SingleDeviceSharding(topology_devices(parse_topology("h100:1"))[0])

    def on_gpu(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)

    params = jax.tree.map(on_gpu, abstract_params(config, unrolled=True))
    tokens = on_gpu(jax.ShapeDtypeStruct((8, 1), jnp.int32))

    def step(params, tokens):
        return Transformer(config, unrolled=True).apply({"params": params}, tokens, tokens, tokens)[0]

    text = jax.jit(step).lower(params, tokens).compile().as_text()
    rows = [256, 2 * 2 * 64 + 256, 2 * 512, 512]  # of o, q and kv, gate_up, down
    assert any(f"[{n}," in text or f",{n}]" in text for n in rows)
    assert not [n for n in rows if re.search(rf"\b{n + 4}\b", text)]
