"""Devices that are not there: the compilers of TPUs and GPUs work without one, from a description."""

import importlib.metadata
import importlib.util
from collections.abc import Sequence

import jax

from phi4r.errors import UserError
from phi4r.planning.topologies import CHIPS, GPU_MEMORY_SHARE, Topology

# What XLA asks about a GPU: multiprocessors, shared memory and L2 of the vendor's data sheets. The fields that are the
# same for all follow in `_gpu_description`.
_GPUS = {
    "a100": dict(name="NVIDIA A100-SXM4-80GB", capability=8, cores=108, shared=167_936, l2=41_943_040, ghz=1.41),
    "h100": dict(name="NVIDIA H100 80GB HBM3", capability=9, cores=132, shared=233_472, l2=52_428_800, ghz=1.98),
    "h200": dict(name="NVIDIA H200", capability=9, cores=132, shared=233_472, l2=52_428_800, ghz=1.98),
    "b200": dict(name="NVIDIA B200", capability=10, cores=148, shared=233_472, l2=132_644_864, ghz=1.965),
}


def compiler_environment(topology: Topology) -> dict[str, str]:
    """Returns the environment variables under which a process can compile for `topology`."""
    # A program from JAX's own cache would not be reported on.
    environment = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false", "XLA_FLAGS": ""}
    platform = CHIPS[topology.chip].platform
    if platform == "tpu":
        # No questions to a metadata server, no lock on a device; the names silence warnings about their absence.
        environment |= {
            "TPU_SKIP_MDS_QUERY": "1",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_WORKER_ID": "0",
            "TPU_ACCELERATOR_TYPE": "",
        }
    if platform == "cpu":
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={topology.num_devices}"
    return environment


def require_compiler(topology: Topology) -> None:
    """Refuses a topology whose compiler is not installed.

    Raises:
      UserError: with the extra to install.
    """
    platform = CHIPS[topology.chip].platform
    module = {"tpu": "libtpu", "cuda": "jax_plugins.xla_cuda13"}.get(platform)
    try:
        found = module is None or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise UserError(
            f"planning for {topology.name} needs the {platform} compiler: pip install -e '.[{platform}]' "
            "(no device is needed)."
        )


def compiler_version(topology: Topology) -> str:
    """Returns the versions that decide what is compiled."""
    platform = CHIPS[topology.chip].platform
    packages = ["jax", "jaxlib", *{"tpu": ["libtpu"], "cuda": ["jax-cuda13-pjrt"]}.get(platform, [])]
    return " ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def topology_devices(topology: Topology) -> Sequence[jax.Device]:
    """Returns the devices of `topology`; the process runs under `compiler_environment`.

    Raises:
      UserError: if the compiler refuses the topology.
    """
    from jax.experimental import topologies

    chip = CHIPS[topology.chip]
    if chip.platform == "cpu":
        return jax.devices("cpu")
    try:
        if chip.platform == "tpu":
            return topologies.get_topology_desc(platform="tpu", topology_name=topology.name).devices
        return topologies.get_topology_desc(
            platform="cuda",
            topology_name=topology.chip,
            target_config=_gpu_description(topology.chip),
            topology="x".join(map(str, (1, *topology.shape))),
        ).devices
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the compiler for {topology.name} cannot be used: {reason[:300]}") from error


def _gpu_description(chip: str) -> str:
    """Returns XLA's description of a GPU, a text proto."""
    gpu, card = CHIPS[chip], _GPUS[chip]
    feature = "feature_extension: ACCELERATED_FEATURES" if card["capability"] >= 9 else ""
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_core: {card["shared"]}
  shared_memory_per_block_optin: {card["shared"] - 1024}
  core_count: {card["cores"]} fpus_per_core: {64 if chip == "a100" else 128} clock_rate_ghz: {card["ghz"]}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {int(gpu.hbm_bandwidth)} l2_cache_size: {card["l2"]}
  device_memory_size: {int(gpu.hbm_gib / GPU_MEMORY_SHARE * 2**30)}
  cuda_compute_capability {{ major: {card["capability"]} {feature} }}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{card["name"]}"
"""
