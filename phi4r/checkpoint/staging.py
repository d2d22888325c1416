"""A folder that appears whole or not at all."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator

from phi4r.errors import UserError


@contextlib.contextmanager
def staged_folder(destination: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Yields a folder to fill; renames it to `destination` on success, deletes it on failure.

    The folder is `destination` with ".partial" appended, so what a killed process left is replaced by the next attempt.

    Raises:
      UserError: if `destination` exists and is not an empty folder, or cannot be written, or the disk is full.
    """
    destination = pathlib.Path(os.path.abspath(destination))
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise UserError(f"{destination} exists already; choose another destination, or move it away first.")
    staging = destination.with_name(destination.name + ".partial")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write to {destination}: {error.strerror}; choose a writable place.") from error
    try:
        yield staging
        os.replace(staging, destination)
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise UserError(f"the disk is full: cannot write {destination}; free some space.") from error
        raise
