"""Settings of the whole suite: 8 virtual CPU devices, strict broadcasting, a compilation cache, shared data."""

import os
import pathlib
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
# XLA gives all virtual devices one thread pool of a thread each; a device that waits in two collectives at once holds
# two, and with few cores the last one to come finds none: the program aborts after 40 s. NPROC is the pool's size.
os.environ.setdefault("NPROC", "32")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(tempfile.gettempdir()) / "phi4r-test-cache"))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

REPOSITORY = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder with real data sets (PHI4R_DATA, or shared/data beside the repository)."""
    folder = pathlib.Path(os.environ.get("PHI4R_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set PHI4R_DATA to the folder that holds gsm8k/, math500/, ...")
    return folder
