"""What Orbax raises and prints when something is wrong with files, brought down to what a person needs."""

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable
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


def quiet_orbax() -> None:
    """Keeps from standard error what Orbax prints besides raising it, until the process ends.

    That is tracebacks in its log, and complaints of reads and writes that end after another one has failed: nobody
    asks for their results any more, or they find the event loop closed that they belong to.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_without_orbax_tracebacks)
    if not isinstance(sys.unraisablehook, _WithoutClosedLoops):
        sys.unraisablehook = _WithoutClosedLoops(sys.unraisablehook)


def _without_orbax_tracebacks(record: logging.LogRecord) -> bool:
    """Whether a record of the log stays."""
    if not record.exc_info:
        return True
    frames = traceback.walk_tb(record.exc_info[2])
    return not any("orbax" in frame.f_code.co_filename for frame, _ in frames)


class _WithoutClosedLoops:
    """A `sys.unraisablehook` in front of another one."""

    def __init__(self, hook: Callable[[Any], object]):
        self._hook = hook

    def __call__(self, unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            self._hook(unraisable)
