"""Disks that refuse to be written, for tests."""

import contextlib
import resource


@contextlib.contextmanager
def no_file_larger_than(num_bytes):
    """The nearest that a process can come to a full disk without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
