import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import ModelConfig
from phi4r.model.int8 import Int8Matrix, look_up, quantize
from phi4r.model.layouts import unroll_params, unrolled_shardings
from phi4r.model.linear import rows_product
from phi4r.model.lora import Lora
from phi4r.model.transformer import Transformer, init_params, unembed
from phi4r.sharding import MeshSettings, make_mesh

CONFIG = ModelConfig(
    vocab_size=64,
    num_layers=1,
    embed_dim=32,
    num_heads=8,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    init_std=0.1,
)
TIED = CONFIG.replace(tied_embeddings=True)


@functools.cache
def params_of(config):
    return jax.jit(functools.partial(init_params, config))(jax.random.key(0))


def unrolled_of(config, weights):
    return jax.jit(functools.partial(unroll_params, config=config, weights=weights))(params_of(config))


def dequantized(tree):
    """The same tree with numbers in place of int8: values times the scale of their output."""

    def numbers(name, leaf):
        if not isinstance(leaf, Int8Matrix):
            return leaf
        missing = {"embedding": (1,), "lm_head": (0,), "q": (3,), "kv": (3,), "o": (1, 2, 3), "gate_up": (2,)}
        return leaf.values * jnp.expand_dims(leaf.scale, missing.get(name, (1,)))

    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: numbers(path[-1].key, leaf), tree, is_leaf=lambda x: isinstance(x, Int8Matrix)
    )


@functools.partial(jax.jit, static_argnums=0)
def logprobs_of(config, unrolled, tokens):
    """Log-probabilities [B T V] of the unrolled model."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    hidden, _ = Transformer(config, unrolled=True).apply({"params": unrolled}, tokens, jnp.ones_like(tokens), positions)
    return jax.nn.log_softmax(unembed(hidden, unrolled))


TOKENS = np.random.default_rng(0).integers(0, 64, (2, 12)).astype(np.int32)


def test_scales_and_values_worked_by_hand():
    """Row 0 has 2.54 at most, so steps of 0.02; row 1 is 0; row 2 has -1.27, so steps of 0.01."""
    matrix = quantize(jnp.array([[2.54, -0.05, 0.0311], [0.0, 0.0, 0.0], [-1.27, 0.004, 0.006]]), (1,))
    np.testing.assert_allclose(matrix.scale, [0.02, 1 / 127, 0.01], rtol=1e-6)
    np.testing.assert_array_equal(matrix.values, [[127, -2, 2], [0, 0, 0], [-127, 0, 1]])
    assert matrix.values.dtype == jnp.int8


def test_every_output_of_a_matrix_with_many_axes_has_its_scale():
    """[out in in] with outputs of magnitudes 1 and 100: the small one is not rounded in steps of the large one."""
    weights = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4)).astype(np.float32)
    weights[:, 0, 0] = 1.0
    weights[1] *= 100.0
    matrix = quantize(jnp.asarray(weights), (1, 2))
    np.testing.assert_allclose(matrix.scale, [1 / 127, 100 / 127], rtol=1e-6)
    x = np.random.default_rng(1).normal(size=(2, 5, 3, 4)).astype(np.float32)
    expected = np.einsum("btij,oij->bto", x, weights)
    error = np.abs(rows_product(matrix, jnp.asarray(x), num_inputs=2) - expected)
    step = np.array([1, 100]) / 127
    assert (error <= 0.5 * step * np.abs(x).sum((2, 3))[..., None]).all()


def test_a_row_of_the_embedding_is_looked_up_with_its_scale():
    embedding = quantize(jnp.array([[1.0, 0.5], [254.0, 2.0]]), (1,))
    rows = look_up(embedding, jnp.array([[1, 0]]), "float32")
    np.testing.assert_allclose(rows[0], [[254.0, 2.0], [1.0, 64 / 127]], rtol=1e-6)


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["head", "tied"])
def test_int8_multiplies_as_the_numbers_that_it_stands_for(config):
    unrolled = unrolled_of(config, "int8")
    ours = logprobs_of(config, unrolled, TOKENS)
    np.testing.assert_allclose(ours, logprobs_of(config, dequantized(unrolled), TOKENS), atol=2e-5, rtol=0)


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["head", "tied"])
def test_every_matrix_is_a_byte_a_weight_and_close(config):
    whole, small = unrolled_of(config, "float"), unrolled_of(config, "int8")
    norms = (2 * config.num_layers + 1) * config.embed_dim
    values = [leaf for leaf in jax.tree.leaves(small) if leaf.dtype == jnp.int8]
    assert sum(leaf.size for leaf in values) == config.num_params - norms
    errors = [
        float(jnp.abs(a - b).max() / jnp.abs(b).max())
        for a, b in zip(jax.tree.leaves(dequantized(small)), jax.tree.leaves(whole), strict=True)
    ]
    assert max(errors) <= 0.5 / 127 + 1e-6
    difference = logprobs_of(config, small, TOKENS) - logprobs_of(config, whole, TOKENS)
    assert 0 < float(jnp.abs(difference).max()) < 0.1


def test_adapters_stay_as_they_are():
    config = CONFIG.replace(lora=Lora(rank=4, alpha=8.0))
    whole, small = unrolled_of(config, "float"), unrolled_of(config, "int8")
    adapters = [name for name in whole["layers_0"]["mlp"] if "_lora_" in name]
    assert len(adapters) == 5
    for name in adapters:
        assert small["layers_0"]["mlp"][name].dtype == jnp.float32
        np.testing.assert_array_equal(small["layers_0"]["mlp"][name], whole["layers_0"]["mlp"][name])


def test_tensor_shards_divide_values_and_scales_alike():
    """tensor = 4 is 2 for the KV heads and 2 for their queries; what is summed over devices has whole scales."""
    mesh = make_mesh(MeshSettings(data=1, fsdp=2, tensor=4), heads=CONFIG.heads)
    shardings = unrolled_shardings(CONFIG, mesh, "int8")
    unroll = functools.partial(unroll_params, config=CONFIG, weights="int8")
    with jax.set_mesh(mesh):
        spread = jax.jit(unroll, out_shardings=shardings)(params_of(CONFIG))
        logprobs = logprobs_of(CONFIG, spread, TOKENS)
    layer = spread["layers_0"]
    shard = lambda leaf: leaf.sharding.shard_shape(leaf.shape)  # noqa: E731
    assert shard(layer["attn"]["q"].values) == (1, 2, 8, 32) and shard(layer["attn"]["q"].scale) == (1, 2, 8)
    assert shard(layer["attn"]["o"].values) == (32, 1, 2, 8) and shard(layer["attn"]["o"].scale) == (32,)
    assert shard(layer["mlp"]["gate_up"].scale) == (2, 12) and shard(layer["mlp"]["down"].scale) == (32,)
    assert shard(spread["embedding"].scale) == (16,) and shard(spread["lm_head"].scale) == (16,)
    alone = logprobs_of(CONFIG, unrolled_of(CONFIG, "int8"), TOKENS)
    np.testing.assert_allclose(logprobs, alone, atol=2e-5, rtol=0)
