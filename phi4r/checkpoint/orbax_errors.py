"""What Orbax raises and prints when something is wrong with files, brought down to what a person needs."""

import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TENSORSTORE_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")


def refusal_of_disk(error: Exception) -> str | None:
    """Returns what the operating system refused, in its words; None if it is not behind `error`."""
    if isinstance(error, OSError):
        code = error.errno
    else:  # TensorStore raises ValueError and tells the number in the text
        found = _TENSORSTORE_ERROR.search(str(error))
        code = int(found[1]) if found else None
    if code is None:
        return None
    return ("the disk is full: " if code in _FULL else "") + os.strerror(code).lower()


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Keeps from standard error what Orbax prints besides raising it.

    That is tracebacks in its log, and complaints of reads and writes that end after another one has failed: they find
    the event loop closed that they belong to.
    """
    logger, drop, hook = logging.getLogger("absl"), _RaisedAnyway(), sys.unraisablehook

    def without_closed_loops(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    logger.addFilter(drop)
    sys.unraisablehook = without_closed_loops
    try:
        yield
    finally:
        logger.removeFilter(drop)
        sys.unraisablehook = hook


class _RaisedAnyway(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record stays."""
        return not (record.exc_info and "orbax" in record.pathname)
