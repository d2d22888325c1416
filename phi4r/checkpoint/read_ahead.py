"""Reads the next things while the last one is worked on."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def read_ahead(
    executor: Executor, read: Callable[[Job], Result], jobs: Iterable[Job], *, ahead: int
) -> Iterator[tuple[Job, Result]]:
    """Yields every job with what `read` returns for it.

    Args:
      executor: whose threads read.
      read: called for the jobs in order.
      jobs: what to read.
      ahead: how many results may wait for their turn.
    """
    futures: collections.deque[tuple[Job, Future[Result]]] = collections.deque()
    for job in jobs:
        futures.append((job, executor.submit(read, job)))
        if len(futures) > ahead:
            done, future = futures.popleft()
            yield done, future.result()
    while futures:
        done, future = futures.popleft()
        yield done, future.result()
