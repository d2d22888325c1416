"""Keeps memory that XLA has freed, so that its next program on a CPU need not fetch it from the kernel page by page.

XLA takes the temporary buffers of a program with malloc when it starts and frees them when it ends. glibc returns large
ones to the kernel, and the next run touches every page for the first time again: a third of the time of a training
step on two cores (benchmarks/RESULTS.md). On an accelerator the buffers lie elsewhere and nothing changes.
"""

import ctypes
import os
import sys

# Of <malloc.h>: name of the environment variable that also sets it -> (parameter, value).
MALLOPT = {
    "MALLOC_ARENA_MAX": (-8, 1),  # the heaps of other arenas are small, so that large blocks would bypass them
    "MALLOC_MMAP_MAX_": (-4, 0),  # no block is mapped for itself
    "MALLOC_TRIM_THRESHOLD_": (-1, -1),  # the top of the heap is never given back
}


def keep_freed_memory() -> bool:
    """Tells glibc's malloc to keep what is freed; returns whether it did.

    To be called before JAX starts its backend, whose threads choose their arenas as they start. Elsewhere than on Linux
    with glibc, and where the environment already sets one of these parameters, it does nothing.
    """
    if not sys.platform.startswith("linux") or MALLOPT.keys() & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in MALLOPT.values())
