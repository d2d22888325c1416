"""Freed memory is kept, and what the user has chosen is left alone."""

import os
import subprocess
import sys

import pytest

# Takes 256 MiB, touches every page and gives them back, twice; prints whether malloc was told, and the second time's
# page faults.
PROBE = """
import ctypes, resource
from phi4r.host_memory import keep_freed_memory
kept = keep_freed_memory()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(1 << 28))
    ctypes.memset(block, 1, 1 << 28)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(kept, faults())
"""


def probe(**environment):
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="speaks of glibc")
def test_a_block_taken_again_has_its_pages():
    kept, faults = probe()
    assert kept and faults < 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="speaks of glibc")
def test_what_the_environment_says_stays():
    kept, faults = probe(MALLOC_ARENA_MAX="4")
    assert not kept and faults > 100  # 65,536 small pages or 128 large ones
