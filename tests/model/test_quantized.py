import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.config import PHI4, ModelConfig
from phi4r.model.inputs import make_token_batch
from phi4r.model.layouts import unroll_params
from phi4r.model.logprobs import token_logprobs
from phi4r.model.lora import Lora, init_adapter, join_adapter, split_adapter
from phi4r.model.quantized import abstract_quantized, block_size, dense, quantize_base
from phi4r.model.transformer import Transformer, abstract_params, init_params, param_axes
from phi4r.sharding import MeshSettings, make_mesh, param_shardings

# Appendix E of the QLoRA paper.
NF4 = [
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
]
CONFIG = ModelConfig(
    vocab_size=64,
    num_layers=2,
    embed_dim=64,
    num_heads=8,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=128,
    init_std=0.1,
    lora=Lora(rank=4, alpha=8.0),
)


@pytest.fixture(scope="module")
def base():
    return init_params(CONFIG.replace(lora=None), jax.random.key(0))


@pytest.fixture(scope="module")
def small(base):
    """The quantized base by kind; `quantize_base` takes its argument over."""
    return {kind: quantize_base(jax.tree.map(jnp.copy, base), kind) for kind in ("int8", "nf4")}


def blocks(weights, axis):
    """[L ... in ...] as [L ... blocks 64 ...] for an axis of the whole leaf, by numpy."""
    weights = np.moveaxis(np.asarray(weights), axis, -1)
    return weights.reshape(*weights.shape[:-1], -1, min(64, weights.shape[-1]))


AXES = [("attn", "q", 1), ("attn", "v", 1), ("attn", "o", 3), ("mlp", "up", 1), ("mlp", "down", 1)]


def test_nf4_has_the_published_levels(base, small):
    """A block holds the levels times its largest magnitude; the weight with that magnitude is exact."""
    for part, name, axis in AXES:
        weights = blocks(base["layers"][part][name], axis)
        again = blocks(dense(small["nf4"]["layers"][part][name], "float32"), axis)
        largest = np.abs(weights).max(-1, keepdims=True)
        levels = again / largest
        nearest = np.abs(levels[..., None] - np.array(NF4, np.float32)).min(-1)
        assert nearest.max() < 1e-6
        # and each weight went to its nearest level
        error = np.abs(weights / largest - levels)
        best = np.abs((weights / largest)[..., None] - np.array(NF4, np.float32)).min(-1)
        np.testing.assert_allclose(error, best, atol=1e-6)


def test_the_error_is_at_most_half_the_widest_step(base, small):
    """int8: steps of max / 127.5, so max / 255. nf4: the widest gap lies between -1 and -0.696: 0.152 max."""
    for kind, bound in (("int8", 1 / 255), ("nf4", (1 - 0.6961928) / 2)):
        for part, name, axis in AXES:
            weights = blocks(base["layers"][part][name], axis)
            again = blocks(dense(small[kind]["layers"][part][name], "float32"), axis)
            largest = np.abs(weights).max(-1, keepdims=True)
            share = np.abs(weights - again) / largest
            assert share.max() <= bound * (1 + 1e-4)
            assert share.max() > 0.8 * bound  # the bound is met: there are no finer steps


def test_a_worked_block():
    """64 weights from -1 to 1; in int8 the step is 2 / 255, in nf4 0.33 goes to 0.3379 and 0.62 to 0.5626."""
    weights = np.linspace(-1.0, 1.0, 64, dtype=np.float32)
    weights[[3, 4]] = 0.33, 0.62
    layer = np.zeros((1, 64, 1), np.float32)
    layer[0, :, 0] = weights
    params = {"layers": {"attn": {n: np.zeros((1, 64, 1, 1, 1)) for n in "qkv"}, "mlp": {}}}
    params["layers"]["attn"] |= {"o": np.zeros((1, 1, 1, 64, 1), np.float32)}
    params["layers"]["mlp"] = {name: layer for name in ("gate", "up", "down")}
    as_arrays = lambda: jax.tree.map(lambda x: jnp.array(x, jnp.float32), params)  # noqa: E731
    nf4 = dense(quantize_base(as_arrays(), "nf4")["layers"]["mlp"]["up"], "float32")[0, :, 0]
    np.testing.assert_allclose(nf4[jnp.array([0, 3, 4, 63])], [-1.0, 0.33791524, 0.562617, 1.0], rtol=1e-6)
    int8 = dense(quantize_base(as_arrays(), "int8")["layers"]["mlp"]["up"], "float32")[0, :, 0]
    assert float(int8[3]) == pytest.approx(42 * 2 / 255, rel=1e-6)  # 0.33 * 127.5 = 42.1
    assert float(int8[4]) == pytest.approx(79 * 2 / 255, rel=1e-6)  # 0.62 * 127.5 = 79.05


def test_blocks_divide_the_axis():
    assert [block_size(n) for n in (5120, 17920, 128, 96, 40, 7)] == [64, 64, 64, 48, 40, 7]


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8.5), ("nf4", 4.5)])
def test_the_base_of_phi4_has_its_size(kind, bits):
    """The matrices at `bits` a weight (a float32 scale for 64), embedding and head, 2 * 513.8M, in bfloat16."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), abstract_params(PHI4)
    )
    sizes = {"uint4": 0.5}
    stored = sum(
        leaf.size * sizes.get(leaf.dtype.name, leaf.dtype.itemsize)
        for leaf in jax.tree.leaves(abstract_quantized(shapes, kind))
    )
    matrices = 40 * (5120 * 128 * (2 * 40 + 2 * 10) + 3 * 5120 * 17920)
    assert stored == matrices * bits / 8 + 2 * (14_659_507_200 - matrices)
    assert stored / 2**30 == pytest.approx({"int8": 15.4, "nf4": 9.05}[kind], abs=0.05)


def test_four_bits_take_half_a_byte_as_arguments(base, small):
    matrices = sum(leaf.size for part in ("attn", "mlp") for leaf in jax.tree.leaves(base["layers"][part]))
    others = sum(leaf.nbytes for leaf in jax.tree.leaves(base)) - 4 * matrices
    compiled = jax.jit(lambda p: jax.tree.map(lambda x: x[:1], p)).lower(small["nf4"]).compile()
    scales = 4 * (matrices / 64 + base["layers"]["attn"]["o"].size * (1 / 16 - 1 / 64))  # heads of 16 are a block
    assert compiled.memory_analysis().argument_size_in_bytes == pytest.approx(matrices / 2 + scales + others, rel=0.01)


@pytest.mark.parametrize(("kind", "tolerance"), [("int8", 0.01), ("nf4", 0.15)])
def test_the_loss_is_close_and_the_gradient_goes_to_the_adapters(base, small, kind, tolerance):
    tokens = np.random.default_rng(0).integers(0, 64, (2, 16)).astype(np.int32)
    batch = make_token_batch(tokens, np.ones_like(tokens), np.ones_like(tokens, bool))
    adapter = init_adapter(split_adapter(abstract_params(CONFIG))[1], jax.random.key(1))
    adapter = jax.tree.map(lambda x: x + 0.05, adapter)

    @jax.jit
    def loss_and_grads(adapter, base):
        def loss(adapter):
            return -token_logprobs(Transformer(CONFIG), join_adapter(base, adapter), batch, chunk_size=16)[0].mean()

        return jax.value_and_grad(loss)(adapter)

    loss, grads = loss_and_grads(adapter, base)
    close, small_grads = loss_and_grads(adapter, small[kind])
    assert close != loss and close == pytest.approx(float(loss), abs=tolerance)
    assert jax.tree.structure(small_grads) == jax.tree.structure(adapter)
    cosine = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (grads, small_grads)), strict=True))
    norms = [jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(tree))) for tree in (grads, small_grads)]
    assert float(cosine / norms[0] / norms[1]) > (0.999 if kind == "int8" else 0.9)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_one_layer_at_a_time_becomes_numbers(kind):
    """Ten layers of which the gradient keeps block inputs: no temporary is as large as two layers in bfloat16."""
    config = CONFIG.replace(num_layers=10, embed_dim=512, mlp_dim=1024, dtype="bfloat16", remat="full")
    params = abstract_params(config.replace(param_dtype="bfloat16"))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), params)
    base, adapter = split_adapter(params)
    rows = jax.ShapeDtypeStruct((1, 8), jnp.int32)

    def loss(adapter, base, tokens):
        hidden, _ = Transformer(config).apply({"params": join_adapter(base, adapter)}, tokens, tokens, tokens)
        return hidden.astype(jnp.float32).sum()

    def temporaries(base):
        return jax.jit(jax.grad(loss)).lower(adapter, base, rows).compile().memory_analysis().temp_size_in_bytes

    layer = 2 * sum(leaf.size // 10 for part in ("attn", "mlp") for leaf in jax.tree.leaves(base["layers"][part]))
    adapters = 4 * sum(leaf.size for leaf in jax.tree.leaves(adapter))
    # float32 and bfloat16 of the matrices of a layer: far from the 10 that the whole base would be
    assert temporaries(abstract_quantized(base, kind)) - temporaries(base) < 4 * layer + adapters


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_parts_of_a_matrix_become_numbers_where_they_are(kind):
    config = CONFIG.replace(lora=None)
    mesh = make_mesh(MeshSettings(data=1, fsdp=2, tensor=4), heads=config.heads)
    shapes = abstract_params(config)
    sharded = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        param_shardings(mesh, param_axes(config), shapes),
    )
    stored = abstract_quantized(sharded, kind)["layers"]
    names = [(part, name) for part in ("attn", "mlp") for name in stored[part]]
    spread = {key: sharded["layers"][key[0]][key[1]].sharding for key in names}
    become = jax.jit(lambda layers: {(a, b): dense(layers[a][b], "bfloat16") for a, b in names}, out_shardings=spread)
    text = become.lower(stored).compile().as_text()
    assert "all-gather" not in text and "all-to-all" not in text and "collective-permute" not in text


def test_decoding_sees_the_numbers_of_training(small):
    unrolled = jax.jit(lambda p: unroll_params(p, CONFIG.replace(lora=None)))(small["nf4"])
    down = dense(small["nf4"]["layers"]["mlp"]["down"], "float32")
    np.testing.assert_array_equal(unrolled["layers_1"]["mlp"]["down"], down[1].T)
