import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from phi4r.model.attention import attend_paged, paged_mosaic, paged_triton
from phi4r.model.attention.paged import choose_kernel
from phi4r.model.int8 import Int8Matrix, quantize
from phi4r.sharding import MeshSettings, make_mesh

N, T, K, Q, H = 4, 2, 2, 3, 8
PAGE, LENGTHS, COLUMNS = 4, (9, 0, 4, 14), 5


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def case(page=PAGE, width=H, lengths=LENGTHS):
    """Queries, pools, a table in no order, and columns of which the last two are those of the queries."""
    num_pages = 4
    table = 1 + np.random.default_rng(0).permutation(N * num_pages).reshape(N, num_pages)
    pool = N * num_pages + 4
    pools = draw(1, pool, K, page, width), draw(2, pool, K, page, width)
    columns = draw(3, N, K, COLUMNS, width), draw(4, N, K, COLUMNS, width)
    places = jnp.asarray(lengths)[:, None] + jnp.arange(COLUMNS)[None]
    places = places.at[2, 0].set(-1)  # a column without a token
    return draw(0, N, T, K, Q, width), places[:, -T:], pools, jnp.asarray(table), jnp.asarray(lengths), columns, places


def rounded(tree):
    return jax.tree.map(lambda x: quantize(x, (3,)), tree)


def numbers(tree):
    """What int8 stands for."""
    each = lambda x: x.values * x.scale[..., None]  # noqa: E731
    return jax.tree.map(each, tree, is_leaf=lambda x: isinstance(x, Int8Matrix))


@functools.partial(jax.jit, static_argnames=("window", "backend"))
def paged(query, positions, pools, table, lengths, columns, places, window=None, backend="auto"):
    return attend_paged(query, positions, pools, table, lengths, columns, places, window=window, backend=backend)


def dense(query, positions, pools, table, lengths, columns, places, window=None):
    """One softmax for each query over its own sequence, in float64."""
    query, positions, pools, table, columns, places = jax.tree.map(
        np.asarray, (query, positions, pools, table, columns, places)
    )
    out = np.zeros(query.shape)
    for n, t, k, q in np.ndindex(query.shape[:-1]):
        length = int(lengths[n])
        keys, values = (
            np.concatenate([np.concatenate(pool[table[n], k])[:length], new[n, k]]).astype(np.float64)
            for pool, new in zip(pools, columns, strict=True)
        )
        at = np.concatenate([np.arange(length), places[n]])
        seen = (at >= 0) & (at <= positions[n, t])
        if window is not None:
            seen &= positions[n, t] - at < window
        scores = keys[seen] @ query[n, t, k, q] / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max())
        out[n, t, k, q] = weights @ values[seen] / weights.sum()
    return out


@pytest.mark.parametrize("window", [None, 6])
def test_floats_are_attended_to_as_by_one_softmax(window):
    np.testing.assert_allclose(paged(*case(), window=window), dense(*case(), window=window), atol=2e-6)


@pytest.mark.parametrize("window", [None, 6])
def test_int8_is_attended_to_as_the_numbers_that_it_stands_for(window):
    query, positions, pools, table, lengths, columns, places = case()
    pools, columns = rounded(pools), rounded(columns)
    ours = paged(query, positions, pools, table, lengths, columns, places, window=window)
    expected = dense(query, positions, numbers(pools), table, lengths, numbers(columns), places, window=window)
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_int8_is_as_close_to_floats_as_its_steps_are_fine():
    """A score moves by at most e = |q|_1 step_k / 2 / sqrt(H), so a weight by exp(2e) and a value by step_v / 2."""
    query, positions, pools, table, lengths, columns, places = case()
    whole = paged(*case())
    small = paged(query, positions, rounded(pools), table, lengths, rounded(columns), places)
    key_step, value_step = (
        max(float(jnp.abs(x).max()) for x in pair) / 127 for pair in zip(pools, columns, strict=True)
    )
    score = jnp.abs(query).sum(-1, keepdims=True) * key_step / 2 / np.sqrt(H)
    bound = jnp.expm1(2 * score) * 127 * value_step + value_step / 2
    error = jnp.abs(small - whole)
    assert (error <= bound).all()
    assert error.max() > 1e-3  # it was rounded


def test_bfloat16_queries_read_int8_without_another_rounding_of_its_scales():
    """Scales stay in float32: against the same numbers in float32 the error is that of bfloat16 products alone."""
    query, positions, pools, table, lengths, columns, places = case()
    query = query.astype(jnp.bfloat16)
    pools, columns = rounded(pools), rounded(columns)
    ours = paged(query, positions, pools, table, lengths, columns, places)
    assert ours.dtype == jnp.bfloat16
    expected = dense(query.astype(jnp.float32), positions, numbers(pools), table, lengths, numbers(columns), places)
    np.testing.assert_allclose(ours.astype(jnp.float32), expected, atol=0.02)


def test_a_page_of_zeros_has_no_scale_and_gives_zeros():
    query, positions, _, table, lengths, columns, places = case()
    empty = Int8Matrix(jnp.zeros((20, K, PAGE, H), jnp.int8), jnp.zeros((20, K, PAGE)))
    nothing = rounded(jax.tree.map(jnp.zeros_like, columns))
    ours = paged(query, positions, (empty, empty), table, lengths, nothing, places)
    np.testing.assert_array_equal(ours, 0)


def test_a_mesh_attends_to_int8_as_one_device_does():
    """Two parts of the batch, with two sequences and half the pages each, over two devices with a KV head each."""
    query, positions, pools, _, lengths, columns, places = case()
    table = jnp.asarray([[1, 2, 3, 4], [5, 6, 7, 8]] * 2)
    counted = jnp.concatenate([table[:2], table[2:] + 10])  # on one device, from the start of the pool
    pools, columns = rounded(pools), rounded(columns)
    alone = paged(query, positions, pools, counted, lengths, columns, places)
    mesh = make_mesh(MeshSettings(fsdp=2, tensor=2), devices=jax.devices()[:4], heads=(K, Q))
    with jax.set_mesh(mesh):
        spread = paged(query, positions, pools, table, lengths, columns, places)
    np.testing.assert_allclose(spread, alone, atol=1e-6)


# What each kernel can read: the one for GPUs heads that fill no block, the one for TPUs whole registers.
KERNELS = {
    "triton": {"page": 16, "width": 24, "lengths": (37, 0, 16, 62)},
    "splash": {"page": 128, "width": 128, "lengths": (300, 0, 128, 510)},
}


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    """A backend whose kernel must be called, and a case that it takes."""
    module = {"triton": paged_triton, "splash": paged_mosaic}[request.param]
    calls, read = [], module.read_pages
    monkeypatch.setattr(module, "read_pages", lambda *args, **kw: calls.append(1) or read(*args, **kw))
    jax.clear_caches()
    yield request.param, KERNELS[request.param]
    assert calls, "the loop was taken"


def test_a_kernel_attends_to_floats_as_by_one_softmax(kernel):
    backend, shape = kernel
    np.testing.assert_allclose(paged(*case(**shape), backend=backend), dense(*case(**shape)), atol=2e-6)


def test_a_kernel_attends_to_int8_as_the_numbers_that_it_stands_for(kernel):
    backend, shape = kernel
    query, positions, pools, table, lengths, columns, places = case(**shape)
    pools, columns = rounded(pools), rounded(columns)
    ours = paged(query, positions, pools, table, lengths, columns, places, backend=backend)
    expected = dense(query, positions, numbers(pools), table, lengths, numbers(columns), places)
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_a_kernel_reads_bfloat16_as_the_loop_does(kernel):
    backend, shape = kernel
    halves = jax.tree.map(lambda x: x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x, case(**shape))
    ours = paged(*halves, backend=backend)
    assert ours.dtype == jnp.bfloat16
    loop = paged(*halves, backend="dense").astype(jnp.float32)
    np.testing.assert_allclose(ours.astype(jnp.float32), loop, atol=0.01)  # of values about 1, with 8 bits


def test_a_kernel_reads_the_pages_of_its_device_on_a_mesh(kernel):
    backend, shape = kernel
    query, positions, pools, _, lengths, columns, places = case(**shape)
    table = jnp.asarray([[1, 2, 3, 4], [5, 6, 7, 8]] * 2)
    counted = jnp.concatenate([table[:2], table[2:] + 10])  # on one device, from the start of the pool
    mesh = make_mesh(MeshSettings(fsdp=2, tensor=2), devices=jax.devices()[:4], heads=(K, Q))
    with jax.set_mesh(mesh):
        spread = paged(query, positions, pools, table, lengths, columns, places, backend=backend)
    np.testing.assert_allclose(spread, dense(query, positions, pools, counted, lengths, columns, places), atol=2e-6)


@pytest.mark.parametrize("window", [1, 20, 50])
def test_the_kernel_for_gpus_has_a_window(window):
    shape = KERNELS["triton"]
    ours = paged(*case(**shape), window=window, backend="triton")
    np.testing.assert_allclose(ours, dense(*case(**shape), window=window), atol=2e-6)


def test_few_sequences_share_out_their_pages_over_the_gpu_and_many_do_not():
    # Programs of 10 KV heads: 528 are wanted; a sequence has at most 32 shares.
    assert [paged_triton.num_shares(10 * sequences) for sequences in (1, 2, 4, 8, 32, 64)] == [32, 32, 16, 8, 2, 1]


@pytest.mark.parametrize(
    ("backend", "platform", "expected"),
    [
        ("auto", "gpu", "triton"),
        ("auto", "tpu", "mosaic"),
        ("auto", "cpu", None),
        ("dense", "gpu", None),
        ("blockwise", "tpu", None),
        ("triton", "cpu", "triton"),
        ("splash", "cpu", "mosaic"),
    ],
)
def test_the_kernel_is_chosen_by_device_unless_it_is_named(backend, platform, expected):
    assert choose_kernel(backend, platform) == expected


@pytest.mark.parametrize("backend", KERNELS)
def test_what_a_kernel_cannot_read_the_loop_reads(backend):
    """Pages of 4 tokens are no block of any kernel."""
    np.testing.assert_allclose(paged(*case(), backend=backend), dense(*case()), atol=2e-6)
