import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from phi4r.model.attention import paged_mosaic
from phi4r.model.int8 import quantize
from phi4r.planning.flops import Flops, count_flops


def flops_of(function, *arguments, **keywords) -> Flops:
    return count_flops(jax.make_jaxpr(function)(*arguments), **keywords)


X, W = jnp.ones((3, 5)), jnp.ones((5, 7))


def test_a_product_costs_two_for_each_multiplication():
    assert flops_of(lambda x, w: x @ w, X, W) == Flops(once=2 * 3 * 5 * 7)
    batched = flops_of(lambda x, y: jnp.einsum("bij,bjk->bik", x, y), jnp.ones((4, 3, 5)), jnp.ones((4, 5, 7)))
    assert batched.once == 4 * 2 * 3 * 5 * 7


def test_the_body_of_a_scan_counts_every_time():
    def function(x):
        return jax.lax.scan(lambda carry, _: (carry @ jnp.ones((5, 5)), None), x, length=6)[0]

    assert flops_of(function, X).once == 6 * 2 * 3 * 5 * 5


def test_what_no_output_needs_costs_nothing():
    assert flops_of(lambda x, w: (x @ w, x)[1], X, W).once == 0


def test_a_gradient_costs_three_products_and_remat_a_fourth():
    def layers(x, w, v):
        return jnp.tanh(jnp.tanh(x @ w) @ v).sum()

    arguments = X, W, jnp.ones((7, 2))
    forward = 2 * 3 * 5 * 7 + 2 * 3 * 7 * 2
    both = (0, 1, 2)
    assert flops_of(jax.value_and_grad(layers, both), *arguments).once == 3 * forward
    assert flops_of(jax.value_and_grad(jax.checkpoint(layers), both), *arguments).once == 4 * forward


def test_of_a_conditional_the_dearest_branch_counts():
    def function(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: jnp.zeros((3, 7)))

    assert flops_of(function, X, W).once == 2 * 3 * 5 * 7


def test_a_loop_on_data_is_counted_by_the_pass():
    def function(x, steps):
        return jax.lax.fori_loop(0, steps, lambda _, y: y @ jnp.ones((5, 5)), x) @ W

    assert flops_of(function, X, 3) == Flops(once=2 * 3 * 5 * 7, iteration=2 * 3 * 5 * 5)


def test_a_loop_on_data_inside_a_scan_is_that_of_attention():
    def function(x, steps):
        def body(carry, _):
            return jax.lax.fori_loop(0, steps, lambda _, y: y @ jnp.ones((5, 5)), carry), None

        return jax.lax.scan(body, x, length=4)[0]

    assert flops_of(function, X, 3, visits=2.5) == Flops(once=4 * 2.5 * 2 * 3 * 5 * 5)


def test_a_loop_on_data_inside_another_is_that_of_pages():
    def function(x, steps, pages):
        def step(_, y):
            return jax.lax.fori_loop(0, pages, lambda _, z: z @ jnp.ones((5, 5)), y)

        return jax.lax.fori_loop(0, steps, step, x)

    assert flops_of(function, X, 3, 4, visits=2.5) == Flops(iteration=2.5 * 2 * 3 * 5 * 5)


def test_under_shard_map_all_devices_count():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("data")
    function = jax.shard_map(
        lambda x, w: x @ w, mesh=mesh, in_specs=(rows, jax.sharding.PartitionSpec()), out_specs=rows
    )
    assert flops_of(function, jnp.ones((24, 5)), W).once == 24 * 2 * 5 * 7


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("attention_forward", Flops(products=2)),
        ("attention_dq", Flops(products=3)),
        ("attention_dkv", Flops(products=4)),
        ("splash_mha_fwd_segmented_no_residuals", Flops(products=2)),
        ("splash_mha_dq_segmented", Flops(products=3)),
        ("splash_mha_dkv_segmented", Flops(products=4)),
        ("softmax_forward", Flops(unknown=frozenset({"softmax_forward"}))),
        ("attention_rotate", Flops(unknown=frozenset({"attention_rotate"}))),
    ],
)
def test_attention_kernels_are_known_by_name(name, expected):
    def copy(x_ref, out_ref):
        out_ref[...] = x_ref[...]

    def function(x):
        return pl.pallas_call(copy, out_shape=x, name=name, interpret=True)(x)

    assert flops_of(function, jnp.ones((8, 128))) == expected


@pytest.mark.parametrize("int8", [False, True])
def test_a_kernel_for_pages_multiplies_with_as_much_of_the_pool_as_it_reads(int8):
    rows, heads, pages, page_size, head_dim = 16, 2, 6, 128, 128
    pool = jnp.zeros((pages, heads, page_size, head_dim))
    pool = quantize(pool, (3,)) if int8 else pool
    query = jnp.zeros((3, heads, 4, 1, head_dim))  # 4 queries, filled up to 16 rows

    def function(query, pool):
        table, lengths = jnp.zeros((3, 2), jnp.int32), jnp.full(3, 256)
        return paged_mosaic.read_pages(query, (pool, pool), table, lengths, interpret=True)

    flops = flops_of(function, query, pool, page_share=0.25)
    assert flops == Flops(once=0.25 * 2 * 2 * rows * heads * pages * page_size * head_dim)


def test_kernels_count_in_scans_but_once_for_all_devices():
    flops = Flops(once=10, products=2).repeated(40).on_devices(8)
    assert flops == Flops(once=3200, products=80)
