"""Compiles products with int8 matrices in a loop, as decoding has them, for accelerators that are not there.

Each kind compiles in a process of its own: run as a script, the file compiles for the topology of its argument.
"""

import importlib.util
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from phi4r.model.int8 import quantize
from phi4r.model.linear import rows_product
from phi4r.planning.devices import compiler_environment, topology_devices
from phi4r.planning.topologies import parse_topology

WIDTH, HEADS, HEAD_DIM, HIDDEN = 1024, 8, 128, 4096
MATRICES = (((HEADS, HEAD_DIM, WIDTH), (2,)), ((WIDTH, HEADS, HEAD_DIM), (1, 2)), ((HIDDEN, WIDTH), (1,)))
COMPILERS = {"h100:1x1": "jax_plugins.xla_cuda13", "v5e:2x2": "libtpu"}


@pytest.mark.parametrize("topology", COMPILERS)
def test_no_loop_holds_a_matrix_in_the_dtype_of_activations(topology):
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
    arguments, temporaries = map(int, run.stdout.split())
    weights = WIDTH * (2 * HEADS * HEAD_DIM + HIDDEN)
    assert weights < arguments < 1.02 * weights, "a byte a weight"
    assert temporaries < 2 * WIDTH * HEADS * HEAD_DIM, "less than the smallest matrix in bfloat16"


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


if __name__ == "__main__":
    print(*memory(sys.argv[1]))
