"""Compiles attention for TPUs that are not there: phi-4's heads in bfloat16, packed rows, forward and backward.

Each generation compiles in a process of its own. PHI4R_ALL_TOPOLOGIES=1 compiles every length, whole and sharded, for
each (several minutes); else a few cases stand for them. Run as a script, the file compiles the cases of its arguments.
"""

import functools
import importlib.util
import os
import re
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from phi4r.model.attention import Tokens
from phi4r.model.attention.splash import attend_splash
from phi4r.model.remat import ATTENTION_RESULTS
from phi4r.sharding import MeshSettings, make_mesh

KV_HEADS, QUERIES, HEAD_DIM = 10, 4, 128
TOPOLOGIES = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
# (T, context, tensor)
EVERY_CASE = [(length, *axes) for length in (1024, 4096, 16384, 32768) for axes in ((1, 1), (2, 2))]
A_FEW_CASES = {"v5e": [(32768, 1, 1)], "v5p": [(16384, 2, 2)], "v6e": [(4096, 2, 2)]}
KERNELS = {"fwd": 1, "dq": 1, "dkv": 1}  # "fwd": 2 would mean that the backward pass computes the output again


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize("generation", TOPOLOGIES)
def test_the_kernels_compile_and_the_forward_one_runs_once(generation):
    cases = EVERY_CASE if os.environ.get("PHI4R_ALL_TOPOLOGIES") == "1" else A_FEW_CASES[generation]
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")},
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    command = [sys.executable, __file__, generation, *(",".join(map(str, case)) for case in cases)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    print(result.stdout)
    assert result.stdout.count(f": {KERNELS}") == len(cases), result.stdout


def compiled_kernels(generation, length, context, tensor):
    """Returns how often each kernel is in the program of one device, and its temporaries in MiB."""
    devices = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[generation]).devices
    mesh = make_mesh(
        MeshSettings(fsdp=1, context=context, tensor=tensor), devices[: context * tensor], heads=(KV_HEADS, QUERIES)
    )
    query, key, token = (PartitionSpec(*axes) for axes in ((None, "context", "kv"), (None, "kv"), (None, "context")))
    in_specs = (query, key, key, Tokens(token, token), Tokens(PartitionSpec(), PartitionSpec()))
    shapes = (1, length, KV_HEADS, QUERIES, HEAD_DIM), *[(1, KV_HEADS, length, HEAD_DIM)] * 2
    arrays = [(shape, jnp.bfloat16) for shape in shapes] + [Tokens(*[((1, length), jnp.int32)] * 2)] * 2
    arguments = jax.tree.map(
        lambda spec, x: jax.ShapeDtypeStruct(*x, sharding=NamedSharding(mesh, spec)), in_specs, tuple(arrays)
    )
    attend = functools.partial(attend_splash, context_shards=context)
    if mesh.size > 1:
        attend = jax.shard_map(attend, mesh=mesh, in_specs=in_specs, out_specs=query, check_vma=False)
    policy = jax.checkpoint_policies.save_only_these_names(*ATTENTION_RESULTS)

    def loss(query, key, value, queries, keys):
        attend_again = jax.checkpoint(lambda *inputs: jnp.sin(attend(*inputs, queries, keys)), policy=policy)
        return jnp.sum(attend_again(query, key, value), dtype=jnp.float32)

    with jax.set_mesh(mesh):
        program = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2))).lower(*arguments).compile()
    text = program.as_text()
    kernels = {phase: len(re.findall(rf"%splash_mha_{phase}_\S+ = .*custom-call\(", text)) for phase in KERNELS}
    return kernels, program.memory_analysis().temp_size_in_bytes / 2**20


def main(generation, *cases):
    for case in cases:
        start = time.monotonic()
        kernels, mib = compiled_kernels(generation, *map(int, case.split(",")))
        print(
            f"{generation} T,context,tensor={case}: {kernels} {mib:.0f} MiB {time.monotonic() - start:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
