"""Compiles products with int8 matrices and pages in a loop, as decoding has them, for accelerators that are not there.

Each kind compiles in a process of its own: run as a script, the file compiles for the topology of its argument.
"""

import functools
import importlib.util
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from phi4r.model.attention import attend_paged
from phi4r.model.config import ModelConfig
from phi4r.model.int8 import quantize
from phi4r.model.kv_cache import empty_pages, open_cache, write_columns, write_pages
from phi4r.model.linear import rows_product
from phi4r.planning.devices import compiler_environment, topology_devices
from phi4r.planning.topologies import parse_topology

WIDTH, HEADS, HEAD_DIM, HIDDEN = 1024, 8, 128, 4096
MATRICES = (((HEADS, HEAD_DIM, WIDTH), (2,)), ((WIDTH, HEADS, HEAD_DIM), (1, 2)), ((HIDDEN, WIDTH), (1,)))
NUM_PAGES, PAGE, SLOTS, STEPS = 1024, 128, 8, 4
COMPILERS = {"h100:1x1": "jax_plugins.xla_cuda13", "v5e:2x2": "libtpu"}


@functools.cache
def compiled_for(topology):
    """The numbers that this file prints as a script."""
    package, _, module = COMPILERS[topology].rpartition(".")
    if importlib.util.find_spec(package or module) is None or importlib.util.find_spec(COMPILERS[topology]) is None:
        pytest.skip(f"{COMPILERS[topology]} is not installed")
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    run = subprocess.run(
        [sys.executable, __file__, topology],
        env={**inherited, **compiler_environment(parse_topology(topology))},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return tuple(map(int, run.stdout.split()))


@pytest.mark.parametrize("topology", COMPILERS)
def test_no_loop_holds_a_matrix_in_the_dtype_of_activations(topology):
    arguments, temporaries, *_ = compiled_for(topology)
    weights = WIDTH * (2 * HEADS * HEAD_DIM + HIDDEN)
    assert weights < arguments < 1.02 * weights, "a byte a weight"
    assert temporaries < 2 * WIDTH * HEADS * HEAD_DIM, "less than the smallest matrix in bfloat16"


@pytest.mark.parametrize("topology", COMPILERS)
def test_int8_pages_are_written_in_place_and_never_held_as_floats(topology):
    *_, aliased, temporaries = compiled_for(topology)
    numbers = 2 * NUM_PAGES * HEADS * PAGE * HEAD_DIM
    assert numbers * (1 + 4 / HEAD_DIM) <= aliased < 1.06 * numbers, "a byte a number, and a scale for 128 of them"
    assert temporaries < numbers / 8


def layer(matrices, x):
    """Something that needs all products: [8 1 WIDTH] in and out."""
    q, o, up = matrices
    x = x + rows_product(o, rows_product(q, x), num_inputs=2)
    return jnp.tanh(x + rows_product(up, x)[..., :WIDTH])


def memory(topology):
    """Returns the bytes of arguments and of temporaries of ten layers with the same weights."""
    sharding = jax.sharding.SingleDeviceSharding(topology_devices(parse_topology(topology))[0])

    def stored(shape, inputs):
        abstract = jax.eval_shape(lambda x: quantize(x, inputs), jax.ShapeDtypeStruct(shape, jnp.bfloat16))
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract)

    rows = jax.ShapeDtypeStruct((8, 1, WIDTH), jnp.bfloat16, sharding=sharding)
    loop = jax.jit(lambda matrices, x: jax.lax.fori_loop(0, 10, lambda _, x: layer(matrices, x), x))
    found = loop.lower([stored(*matrix) for matrix in MATRICES], rows).compile().memory_analysis()
    return found.argument_size_in_bytes, found.temp_size_in_bytes


def burst(pages, table, lengths, query, key):
    """A layer of decode steps that write columns [SLOTS K 1 H] and read all that came before, and then the pages."""
    cache = open_cache(pages, table, lengths, columns=STEPS, longest=table.shape[1] * PAGE)

    def step(index, state):
        query, keys, values, positions = state
        keys, values = (write_columns(columns, key, index) for columns in (keys, values))
        positions = positions.at[:, index].set(lengths + index)
        known = table, lengths, (keys, values), positions
        mixed = attend_paged(query, (lengths + index)[:, None], (pages.keys[0], pages.values[0]), *known)
        return mixed, keys, values, positions

    state = query, cache.keys[0], cache.values[0], cache.positions
    mixed, keys, values, positions = jax.lax.fori_loop(0, STEPS, step, state)
    return write_pages(cache.replace(keys=(keys,), values=(values,), positions=positions)), mixed


def cache_memory(topology):
    """Returns the bytes of pages that a burst writes in place, and those of its temporaries."""
    sharding = jax.sharding.SingleDeviceSharding(topology_devices(parse_topology(topology))[0])
    config = ModelConfig(1, 1, WIDTH, 4 * HEADS, HEADS, HEAD_DIM, HIDDEN, dtype="bfloat16")
    pages = jax.eval_shape(lambda: empty_pages(config, num_pages=NUM_PAGES, page_size=PAGE, cache="int8"))
    shapes = (
        pages,
        jax.ShapeDtypeStruct((SLOTS, NUM_PAGES // SLOTS), jnp.int32),
        jax.ShapeDtypeStruct((SLOTS,), jnp.int32),
        jax.ShapeDtypeStruct((SLOTS, 1, HEADS, 4, HEAD_DIM), jnp.bfloat16),
        jax.ShapeDtypeStruct((SLOTS, HEADS, 1, HEAD_DIM), jnp.bfloat16),
    )
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)
    found = jax.jit(burst, donate_argnums=0).lower(*shapes).compile().memory_analysis()
    return found.alias_size_in_bytes, found.temp_size_in_bytes


if __name__ == "__main__":
    print(*memory(sys.argv[1]), *cache_memory(sys.argv[1]))
