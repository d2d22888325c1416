"""A folder that appears whole or not at all, whichever hosts write it."""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

from phi4r import hosts
from phi4r.checkpoint import journal
from phi4r.errors import UserError


@contextlib.contextmanager
def staged_folder(destination: str | os.PathLike, *, resume_key: str | None = None) -> Iterator[pathlib.Path]:
    """Yields a folder to fill; renames it to `destination` on success.

    The folder is `destination` with ".partial" appended. On failure it is deleted, and what a killed process left is
    replaced by the next attempt; with `resume_key` it stays, except where the input is at fault, and the next attempt
    with the same key finds it.

    Every host of a run enters and leaves together, on a file system that they share; the first one makes, renames and
    deletes the folder, and a failure on one host is a failure on all of them.

    Args:
      destination: must not exist, or be empty.
      resume_key: of `journal.conversion_key`; None for a folder that is written anew each time.

    Raises:
      UserError: if `destination` exists and is not an empty folder, or cannot be written, or the disk is full.
    """
    destination = pathlib.Path(os.path.abspath(destination))
    staging = destination.with_name(destination.name + ".partial")
    on_first_host(lambda: _prepare(destination, staging, resume_key))
    try:
        yield staging
    except BaseException as error:
        keep = resume_key is not None and not isinstance(error, UserError)
        failure = _explained(error, destination, staging if keep else None)
        _leave(staging, failure, keep=keep)
        if failure is error:
            raise
        raise failure from error
    _leave(staging, None, keep=False)
    on_first_host(lambda: os.replace(staging, destination))


def _prepare(destination: pathlib.Path, staging: pathlib.Path, resume_key: str | None) -> None:
    """Makes the folder to fill, or finds the one to go on with."""
    if destination.exists() and not (destination.is_dir() and not any(destination.iterdir())):
        raise UserError(f"{destination} exists already; choose another destination, or move it away first.")
    try:
        if journal.is_unfinished(staging, resume_key):
            return
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write to {destination}: {error.strerror}; choose a writable place.") from error


def _explained(error: BaseException, destination: pathlib.Path, kept: pathlib.Path | None) -> BaseException:
    """Returns the error, or for a full disk one that says so."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    resume = f" and run it again: it goes on from {kept}" if kept else ""
    return UserError(f"the disk is full: cannot write {destination}; free some space{resume}.")


def _leave(staging: pathlib.Path, failure: BaseException | None, *, keep: bool) -> None:
    """Deletes the folder if a host failed; raises UserError on the hosts that did not fail themselves."""
    failures = [text for text in hosts.gather([None if failure is None else _text(failure)]) if text is not None]
    if failures and not keep and hosts.is_primary():
        shutil.rmtree(staging, ignore_errors=True)
    if failures and failure is None:
        raise UserError(failures[0])


def on_first_host(action: Callable[[], None]) -> None:
    """Runs `action` on the first host; all hosts go on when it is done, or raise what it raised."""
    failure = None
    if hosts.is_primary():
        try:
            action()
        except (UserError, OSError) as error:
            failure = error
    failures = [text for text in hosts.gather([None if failure is None else _text(failure)]) if text is not None]
    if failure is not None:
        raise failure
    if failures:
        raise UserError(failures[0])


def _text(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
