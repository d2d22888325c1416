"""Verdicts under deadlines: a pool of worker processes that can be killed.

The parent decides the easy cases itself (`TwoSpeedVerifier.quick`), hands the others to workers (but for verifiers that
bring a sandbox, `SelfLimitedVerifier`), kills and replaces a worker that misses its deadline, and counts what was not
judged. No signals are used, so it works in any thread.
A verdict that failed is a verdict with `status` "timeout" or "error", never a plain wrong one.

    with VerifierPool(num_workers=4, deadline_s=5.0) as pool:
        future = pool.submit(MathVerifier(thinking=True), response, reference)  # judged while this thread goes on
        verdicts = pool.verify_all(MathVerifier(thinking=True), responses, references)
        future.result()  # a Verdict
        pool.counts  # Counter({"ok": 500, "no_answer": 11, "timeout": 1})
"""

import collections
import concurrent.futures
import logging
import math
import os
import queue
import threading
from collections.abc import Sequence
from typing import get_args

from phi4r.errors import UserError
from phi4r.verifiers.specification import key_of, specification
from phi4r.verifiers.verdict import SelfLimitedVerifier, Status, TwoSpeedVerifier, Verdict, Verifier, failed
from phi4r.verifiers.worker_process import WorkerDied, WorkerLate, WorkerProcess

_log = logging.getLogger(__name__)

DEADLINE_S = 5.0
MEMORY_BYTES = 1 << 30
_MAX_DEFAULT_WORKERS = 16


def verify_all(
    verifier: Verifier,
    responses: Sequence[str],
    references: Sequence[str],
    *,
    deadline_s: float = DEADLINE_S,
    num_workers: int | None = None,
) -> list[Verdict]:
    """Judges all responses, in order, with a pool of its own; see `VerifierPool` for one to keep."""
    with VerifierPool(num_workers=num_workers, deadline_s=deadline_s) as pool:
        return pool.verify_all(verifier, responses, references)


class VerifierPool:
    """Runs verifiers in worker processes, which start when first needed and stay warm until `close`.

    Attributes:
      counts: how many verdicts of each status this pool has reached.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        deadline_s: float = DEADLINE_S,
        memory_bytes: int = MEMORY_BYTES,
        *,
        start_deadline_s: float = 120.0,
    ):
        """Makes a pool; starts no process yet.

        Args:
          num_workers: processes at most; None for one per available core, up to 16.
          deadline_s: wall-clock seconds for one response.
          memory_bytes: address space of one worker.
          start_deadline_s: wall-clock seconds for a worker to start and load a verifier.

        Raises:
          UserError: for a number that is not positive.
        """
        num_workers = _num_available_cores() if num_workers is None else num_workers
        if num_workers < 1 or deadline_s <= 0 or memory_bytes <= 0:
            raise UserError("A verifier pool needs num_workers >= 1, deadline_s > 0 and memory_bytes > 0.")
        self.counts: collections.Counter[str] = collections.Counter()
        self._num_workers = num_workers
        self._deadline_s = deadline_s
        self._memory_bytes = memory_bytes
        self._start_deadline_s = start_deadline_s
        self._proven: set[str] = set()  # verifiers that a worker has loaded
        self._lock = threading.Lock()
        self._idle: queue.LifoQueue[WorkerProcess | None] = queue.LifoQueue()  # the warmest worker first
        for _ in range(num_workers):
            self._idle.put(None)  # a place for a worker that has not been needed yet
        self._threads = concurrent.futures.ThreadPoolExecutor(num_workers, thread_name_prefix="verifier")

    def __enter__(self) -> "VerifierPool":
        return self

    def __exit__(self, *unused) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; what is being judged is finished or times out first."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._idle.empty():
            worker = self._idle.get()
            if worker is not None:
                worker.kill()

    def warm_up(self, verifier: Verifier) -> None:
        """Starts every worker and loads `verifier` there, so that the first batch does not wait for imports."""
        spec = specification(verifier)
        if isinstance(verifier, SelfLimitedVerifier):  # it needs none
            return
        with self._lock:  # two callers at once would each hold half of the workers and wait for the other half
            workers = [self._idle.get() or self._start(spec) for _ in range(self._num_workers)]
            try:
                for worker in workers:
                    worker.begin_load(spec)
                for worker in workers:
                    worker.finish_loads(self._start_deadline_s)
            finally:
                for worker in workers:
                    self._idle.put(worker)

    def submit(self, verifier: Verifier, response: str, reference: str) -> concurrent.futures.Future[Verdict]:
        """Returns the verdict to come; the cheap path is taken at once, in this thread.

        The future never raises for what a response does to the verifier. It raises UserError where the verifier cannot
        be loaded at all; a worker that fails to start after others have worked is a verdict with status "error".

        Raises:
          UserError: if the verifier cannot run in a worker.
        """
        spec = specification(verifier)
        if isinstance(verifier, SelfLimitedVerifier):
            return self._threads.submit(self._judge_here, verifier, response, reference)
        verdict = _quick(verifier, response, reference)
        if verdict is None:
            return self._threads.submit(self._judge_counted, spec, response, reference)
        future: concurrent.futures.Future[Verdict] = concurrent.futures.Future()
        future.set_result(self._counted(verdict))
        return future

    def verify_all(self, verifier: Verifier, responses: Sequence[str], references: Sequence[str]) -> list[Verdict]:
        """Returns the verdicts on `responses`, in order.

        Raises:
          UserError: if the lengths differ, or the verifier cannot run in a worker.
        """
        if len(responses) != len(references):
            raise UserError(f"{len(responses)} responses but {len(references)} references; give one for each.")
        futures = [self.submit(verifier, *pair) for pair in zip(responses, references, strict=True)]
        return [future.result() for future in futures]

    def _judge_here(self, verifier: SelfLimitedVerifier, response: str, reference: str) -> Verdict:
        """Returns the verdict of a verifier that needs no worker."""
        try:
            return self._counted(verifier(response, reference))
        except UserError:  # this machine cannot run it at all
            raise
        except Exception:  # a verifier of others may raise all the same
            _log.exception("Not judged by %s", verifier)
            return self._counted(failed("error"))

    def _judge_counted(self, spec: dict, response: str, reference: str) -> Verdict:
        """Returns the verdict of a worker, or counts one that could not be had."""
        try:
            verdict = self._judge(spec, response, reference)
        except (UserError, OSError) as error:  # OSError: no process, no memory or no descriptor left for a worker
            if key_of(spec) not in self._proven:
                raise
            _log.warning("Not judged: %s", error)
            verdict = failed("error")
        return self._counted(verdict)

    def _counted(self, verdict: Verdict) -> Verdict:
        with self._lock:
            self.counts[verdict.status] += 1
        return verdict

    def _start(self, spec: dict) -> WorkerProcess:
        """Starts a worker whose imports run while this thread does other things."""
        worker = WorkerProcess(self._memory_bytes)
        worker.begin_load(spec)
        return worker

    def _judge(self, spec: dict, response: str, reference: str) -> Verdict:
        """Asks an idle worker, and replaces it if it was late, died or broke."""
        worker = self._idle.get()
        try:
            if worker is None or not worker.alive:
                worker = self._start(spec)
            worker.begin_load(spec)
            worker.finish_loads(self._start_deadline_s)
            self._proven.add(key_of(spec))
            verdict, cause = self._ask(worker, spec, response, reference)
            if verdict.status in ("timeout", "error"):
                _log.warning("Not judged: %s; reference %.80r, response %r", cause, reference, response[-80:])
                worker.kill()
                worker = self._start(spec)
        except BaseException:
            if worker is not None:
                worker.kill()
            worker = None
            raise
        finally:
            self._idle.put(worker)
        return verdict

    def _ask(self, worker: WorkerProcess, spec: dict, response: str, reference: str) -> tuple[Verdict, str]:
        """Returns the verdict and, in words, what went wrong if it failed."""
        try:
            reply = worker.verify(spec, response, reference, self._deadline_s)
        except WorkerLate:
            return failed("timeout"), f"no verdict within {self._deadline_s:g} s"
        except WorkerDied:
            return failed("error"), "the worker died"
        if "error" in reply:
            return failed("error"), reply["error"]
        if not _is_verdict(reply):
            return failed("error"), f"the verifier returned {reply}"
        return Verdict(**reply), "the verifier failed"


def _quick(verifier: Verifier, response: str, reference: str) -> Verdict | None:
    """Returns the verdict of the cheap path, or None where only a worker can tell."""
    if not isinstance(verifier, TwoSpeedVerifier):
        return None
    try:
        return verifier.quick(response, reference)
    except Exception:  # a worker will meet the same error, and it is counted there
        _log.exception("The cheap path of %s failed", verifier)
        return None


def _is_verdict(reply: dict) -> bool:
    """Whether a reply has the fields of a verdict, of their types: verifiers of others return what they like."""
    return (
        reply.keys() == {"correct", "score", "answer", "status", "parts"}
        and isinstance(reply["correct"], bool)
        and isinstance(reply["score"], float | int)
        and math.isfinite(reply["score"])
        and isinstance(reply["answer"], str | None)
        and reply["status"] in get_args(Status)
        and isinstance(reply["parts"], dict)
        and all(isinstance(part, float | int) and math.isfinite(part) for part in reply["parts"].values())
    )


def _num_available_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MAX_DEFAULT_WORKERS)
