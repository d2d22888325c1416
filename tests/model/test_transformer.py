import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import PHI4, ModelConfig
from phi4r.model.inputs import segment_positions
from phi4r.model.layouts import unroll_params
from phi4r.model.transformer import Transformer, abstract_params, init_params, param_axes, unembed
from tests.model.caches import empty_cache

CONFIG = ModelConfig(
    vocab_size=61,
    num_layers=3,
    embed_dim=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    init_std=0.2,
    sliding_window=9,
)
TIED = CONFIG.replace(tied_embeddings=True, sliding_window=None)


@functools.cache
def params_of(config):
    """Random parameters with norm scales that are not all one."""
    params = jax.jit(functools.partial(init_params, config))(jax.random.key(0))
    for norm in (params["final_norm"], params["layers"]["attn_norm"], params["layers"]["mlp_norm"]):
        norm["scale"] = 1.0 + 0.3 * jax.random.normal(jax.random.key(1), norm["scale"].shape)
    return params


def packed_rows():
    """Tokens, segment ids and positions of two rows of 14 tokens."""
    tokens = jax.random.randint(jax.random.key(2), (2, 14), 0, CONFIG.vocab_size)
    segments = jnp.asarray([[1] * 4 + [2] * 8 + [0] * 2, [1] * 14])
    return tokens, segments, segment_positions(segments, xp=jnp)


@functools.partial(jax.jit, static_argnums=(0, 3))
def forward(config, params, rows, unrolled=False):
    """Returns logits [B T V] of a pass without a cache."""
    hidden, _ = Transformer(config, unrolled).apply({"params": params}, *rows)
    return unembed(hidden, params)


def test_parameters_have_the_shapes_and_names_that_checkpoints_rely_on():
    shapes = jax.tree.map(lambda leaf: leaf.shape, abstract_params(CONFIG))
    assert shapes == {
        "embedding": (61, 32),
        "lm_head": (32, 61),
        "final_norm": {"scale": (32,)},
        "layers": {
            "attn": {"q": (3, 32, 2, 2, 8), "k": (3, 32, 2, 8), "v": (3, 32, 2, 8), "o": (3, 2, 2, 8, 32)},
            "attn_norm": {"scale": (3, 32)},
            "mlp_norm": {"scale": (3, 32)},
            "mlp": {"gate": (3, 32, 48), "up": (3, 32, 48), "down": (3, 48, 32)},
        },
    }
    assert "lm_head" not in abstract_params(TIED)


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["untied", "tied"])
def test_abstract_parameters_and_axes_fit_the_real_ones(config):
    params, abstract, axes = params_of(config), abstract_params(config), param_axes(config)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(lambda x: (x.shape, x.dtype), abstract)
    ranks = jax.tree.map(len, axes, is_leaf=lambda x: isinstance(x, tuple))
    assert ranks == jax.tree.map(lambda x: x.ndim, params)
    assert axes["layers"]["attn"]["k"] == ("layers", "embed", "kv_heads", "head_dim")


def test_phi_4_has_14_66_billion_parameters_at_full_shape():
    shapes = abstract_params(PHI4)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 14_659_507_200
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("bfloat16")}
    rows = [jax.ShapeDtypeStruct((1, 4096), jnp.int32)] * 3
    hidden = jax.eval_shape(lambda params, *rows: Transformer(PHI4).apply({"params": params}, *rows)[0], shapes, *rows)
    assert (hidden.shape, hidden.dtype) == ((1, 4096, 5120), jnp.dtype("bfloat16"))


def test_initial_weights_are_normal_with_the_given_deviation_and_norms_are_one():
    params = jax.jit(functools.partial(init_params, CONFIG.replace(init_std=0.02)))(jax.random.key(3))
    for name in ("gate", "up", "down"):
        assert float(params["layers"]["mlp"][name].std()) == pytest.approx(0.02, rel=0.05)
    assert float(params["embedding"].std()) == pytest.approx(0.02, rel=0.05)
    assert (params["layers"]["attn_norm"]["scale"] == 1).all()
    first, second = params["layers"]["attn"]["q"][:2]
    assert not np.allclose(first, second)  # every layer has random numbers of its own


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["untied", "tied"])
def test_the_unrolled_layout_gives_what_the_scan_gives(config):
    params, rows = params_of(config), packed_rows()
    scanned = forward(config, params, rows)
    unrolled = forward(config, unroll_params(params, config), rows, True)
    np.testing.assert_allclose(unrolled, scanned, atol=1e-5, rtol=0)


def test_packed_rows_score_like_separate_rows():
    params, rows = params_of(CONFIG), packed_rows()
    packed = forward(CONFIG, params, rows)
    for start, stop in ((0, 4), (4, 12)):
        alone = [x[:1, start:stop] for x in rows]
        alone[1] = jnp.ones_like(alone[1])
        np.testing.assert_allclose(packed[:1, start:stop], forward(CONFIG, params, alone), atol=1e-5, rtol=0)


def test_a_token_does_not_see_the_tokens_after_it():
    params, (tokens, segments, positions) = params_of(TIED), packed_rows()
    changed = tokens.at[1, 9].add(1)
    before = forward(TIED, params, (tokens, segments, positions))
    after = forward(TIED, params, (changed, segments, positions))
    np.testing.assert_array_equal(before[1, :9], after[1, :9])
    assert np.abs(before[1, 9:] - after[1, 9:]).max(axis=-1).min() > 1e-3


def test_recomputation_changes_neither_value_nor_gradients():
    rows = packed_rows()
    target = jax.random.normal(jax.random.key(4), (2, 14, CONFIG.vocab_size))

    def value_and_grads(remat):
        config = CONFIG.replace(remat=remat)
        return jax.jit(jax.value_and_grad(lambda params: jnp.mean(forward(config, params, rows) * target)))

    value, grads = value_and_grads("none")(params_of(CONFIG))
    remat_value, remat_grads = value_and_grads("full")(params_of(CONFIG))
    np.testing.assert_allclose(remat_value, value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7, rtol=1e-4), remat_grads, grads)
    assert all(np.abs(grad).max() > 0 for grad in jax.tree.leaves(grads))
    residuals = {remat: _residual_floats(CONFIG.replace(remat=remat), rows) for remat in ("none", "full")}
    assert residuals["full"] < residuals["none"] / 4, "nothing is recomputed"


def _residual_floats(config, rows):
    """Returns how many floats the forward pass keeps for the backward pass, parameters apart."""
    params = params_of(CONFIG)
    _, pullback = jax.eval_shape(lambda params: jax.vjp(lambda p: forward(config, p, rows), params), params)
    kept = [leaf for leaf in jax.tree.leaves(pullback) if leaf.dtype == jnp.float32]
    return sum(leaf.size for leaf in kept) - sum(leaf.size for leaf in jax.tree.leaves(params))


def test_bfloat16_activations_stay_near_float32_and_logits_are_float32():
    config = CONFIG.replace(dtype="bfloat16")
    rows, exact = packed_rows(), forward(CONFIG, params_of(CONFIG), packed_rows())
    hidden, _ = Transformer(config).apply({"params": params_of(CONFIG)}, *rows)
    assert hidden.dtype == jnp.bfloat16
    logits = unembed(hidden, params_of(CONFIG))
    assert logits.dtype == jnp.float32
    error = np.abs(logits - exact).max() / np.abs(exact).max()
    assert 1e-4 < error < 0.05  # a bfloat16 has 8 bits; an error of 0 would mean that nothing was in bfloat16


def test_unembed_of_the_module_is_unembed_of_the_parameters():
    for config in (CONFIG, TIED):
        hidden = jax.random.normal(jax.random.key(5), (1, 2, config.embed_dim))
        logits = Transformer(config).apply({"params": params_of(config)}, hidden, method="unembed")
        head = params_of(config)["embedding"].T if config.tied_embeddings else params_of(config)["lm_head"]
        np.testing.assert_allclose(logits, hidden @ head[None], atol=1e-5)


def test_the_stacked_layout_refuses_a_cache():
    cache = empty_cache(CONFIG, batch=2, capacity=14)
    with pytest.raises(ValueError, match="unroll"):
        Transformer(CONFIG).apply({"params": params_of(CONFIG)}, *packed_rows(), cache)


@pytest.mark.parametrize("name", ["lm_head", "embedding"])
def test_the_gradient_of_bfloat16_logits_has_no_float32_product(name):
    hidden = jax.random.normal(jax.random.key(3), (2, 5, 16), jnp.bfloat16)
    head = jax.random.normal(jax.random.key(4), (16, 23) if name == "lm_head" else (23, 16))

    def loss(hidden, head):
        return jax.nn.logsumexp(unembed(hidden, {name: head}), axis=-1).sum()

    grads = jax.grad(loss, argnums=(0, 1))(hidden, head)
    exact = jax.grad(loss, argnums=(0, 1))(hidden.astype(jnp.float32), head)
    for grad, expected in zip(grads, exact, strict=True):
        assert np.linalg.norm(np.asarray(grad, np.float32) - expected) < 0.01 * np.linalg.norm(expected)
    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(hidden, head).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) == 3
    assert all(line.split(" : (")[1].split(") ->")[0].count("xbf16>") == 2 for line in products)
