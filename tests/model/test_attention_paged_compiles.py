"""Compiles a decode step's attention to pages for accelerators that are not there: the pool is read where it lies.

Each kind compiles in a process of its own: run as a script, the file compiles for the topology of its argument.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from phi4r.model.attention import attend_paged
from phi4r.model.int8 import Int8Matrix
from phi4r.model.kv_cache import PAGE_KERNEL
from phi4r.planning.devices import compiler_environment, topology_devices
from phi4r.planning.topologies import parse_topology

# Phi-4's heads: 512 pages of 128 tokens, 8 sequences of up to 32k tokens, 32 columns.
KV_HEADS, GROUP, HEAD_DIM, PAGE, NUM_PAGES, SLOTS, TABLE, COLUMNS = 10, 4, 128, 128, 512, 8, 257, 32
COMPILERS = {"h100:1x1": "jax_plugins.xla_cuda13", "v5e:2x2": "libtpu"}


@functools.cache
def compiled_for(topology):
    """What this file prints as a script: for floats and int8, (kernels, bytes of temporaries)."""
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
    return json.loads(run.stdout)


@pytest.mark.parametrize("cache", ["float", "int8"])
@pytest.mark.parametrize("topology", COMPILERS)
def test_one_kernel_reads_the_pages_and_nothing_copies_or_gathers_them(topology, cache):
    num_kernels, temporaries = compiled_for(topology)[cache]
    assert num_kernels == 1
    page = KV_HEADS * PAGE * HEAD_DIM  # bytes of an int8 page; a gather of the loop holds one for each sequence
    scales = 2 * NUM_PAGES * KV_HEADS * PAGE * 4 * (cache == "int8")  # which a TPU may lay out anew
    assert temporaries < NUM_PAGES * page / 8 + scales


def step(topology, cache):
    """Returns how many kernels read pages in a compiled step, and the bytes of its temporaries."""
    mesh = Mesh(np.array(topology_devices(parse_topology(topology))[:1]), ("data",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec())

    def array(*shape, dtype=jnp.int32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    def held(*shape):
        if cache == "int8":
            return Int8Matrix(array(*shape, dtype=jnp.int8), array(*shape[:-1], dtype=jnp.float32))
        return array(*shape, dtype=jnp.bfloat16)

    arguments = (
        array(SLOTS, 1, KV_HEADS, GROUP, HEAD_DIM, dtype=jnp.bfloat16),
        array(SLOTS, 1),
        (held(NUM_PAGES, KV_HEADS, PAGE, HEAD_DIM),) * 2,
        array(SLOTS, TABLE),
        array(SLOTS),
        (held(SLOTS, KV_HEADS, COLUMNS, HEAD_DIM),) * 2,
        array(SLOTS, COLUMNS),
    )
    with jax.set_mesh(mesh):
        compiled = jax.jit(attend_paged).lower(*arguments).compile()
    kernels = sum("custom-call(" in line and f"/{PAGE_KERNEL}/" in line for line in compiled.as_text().splitlines())
    return kernels, compiled.memory_analysis().temp_size_in_bytes


if __name__ == "__main__":
    print(json.dumps({cache: step(sys.argv[1], cache) for cache in ("float", "int8")}))
