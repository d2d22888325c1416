"""The life of a program behind the walls: its limits, its parent, and an eye on all memory of its tree."""

import ctypes
import math
import os
import pathlib
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from namespaces import NOBODY

_LOOK_S = 0.05  # between two looks at the memory of the tree
_MAX_FILES = 128  # open at a time, for each process
_STACK_BYTES = 8 << 20
_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES = 1, 38  # of prctl

_libc = ctypes.CDLL(None, use_errno=True)

Report = Callable[..., None]


def supervise(settings: dict[str, Any], box: pathlib.Path, stdin: int, processes: "Processes", report: Report) -> None:
    """Runs the program to its end, or until its processes together hold more memory than they may.

    Args:
      settings: as the parent wrote them.
      box: the working directory of the program.
      stdin: open file that it reads.
      processes: opened before the walls went up.
      report: sends the fields of a message to the parent.
    """
    alive, held_by_init = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(alive)
        _run_init(settings, box, stdin, report)
    os.close(held_by_init)
    for stream in (0, 1, 2):  # the parent is to see the end of what the program writes
        os.close(stream)
    while not select.select([alive], [], [], _LOOK_S)[0]:
        memory = processes.memory_below(init)
        if memory > settings["memory_bytes"]:
            report(memory=memory)
            return
        if os.getppid() != settings["parent"]:
            return
    os.waitpid(init, 0)  # with init, every process of its namespace has ended


def end_group() -> None:
    """Kills this process and all of its group; init takes its whole namespace with it."""
    os.killpg(0, signal.SIGKILL)


def _run_init(settings: dict[str, Any], box: pathlib.Path, stdin: int, report: Report) -> None:
    """Starts the program and waits for it, as the first process of the namespace; never returns.

    It is immune to the signals of its namespace, and when it ends the kernel kills every process there.
    """
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if sys.platform == "linux":
            _libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        program = os.fork()
        if program == 0:
            _become_program(settings, box, stdin, report)
        for stream in (0, 1, 2):
            os.close(stream)
        while True:
            pid, status, usage = os.wait4(-1, 0)
            if pid == program:
                report(exit=os.waitstatus_to_exitcode(status), cpu_s=usage.ru_utime + usage.ru_stime)
                break
    finally:
        os._exit(0)


def _become_program(settings: dict[str, Any], box: pathlib.Path, stdin: int, report: Report) -> None:
    """Gives up every right and becomes the program; never returns."""
    try:
        os.chdir(box)
        os.dup2(stdin, 0)
        os.umask(0o077)
        if settings["protected"]:
            _drop_rights()
        _limit(settings)
        report(started=True)
        python = settings["python"]
        os.execve(python, [python, "-I", "-S", "-B", "-X", "utf8", "program.py"], {})
    except OSError as error:
        report(failed=f"the program cannot be started: {error}")
    finally:
        os._exit(1)


def _drop_rights() -> None:
    """Becomes nobody for good; the capabilities of the namespace go with the change of user, or with exec."""
    if os.getuid() != NOBODY:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if _libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "new privileges cannot be ruled out")


def _limit(settings: dict[str, Any]) -> None:
    cpu_s = math.ceil(settings["cpu_s"])
    limits = {
        "CPU": (cpu_s, cpu_s + 1),  # a program may ignore the first
        "FSIZE": settings["file_bytes"],
        "CORE": 0,
        "NOFILE": _MAX_FILES,
        "STACK": _STACK_BYTES,
        "MSGQUEUE": 0,
        "MEMLOCK": 0,
    }
    if settings["protected"]:  # elsewhere every process of the user counts, and init and launcher count with it
        limits["NPROC"] = settings["processes"] + 2
    for name, limit in {**limits, "AS": settings["memory_bytes"]}.items():
        soft, hard = limit if isinstance(limit, tuple) else (limit, limit)
        number = getattr(resource, f"RLIMIT_{name}", None)
        if number is None:
            continue
        _, ceiling = resource.getrlimit(number)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError) as error:
            if settings["protected"]:
                raise OSError(f"the limit {name} cannot be set: {error}") from error


class Processes:
    """The process table as it is outside of the namespaces: opened before, read after they are entered."""

    def __init__(self):
        self._folder = os.open("/proc", os.O_RDONLY) if os.path.isdir("/proc/self/task") else None

    def memory_below(self, pid: int) -> int:
        """Returns the bytes that all descendants of a process hold in memory, with their System V segments."""
        if self._folder is None:
            return 0
        pages = sum(int(self._read(f"{child}/statm", "0 0").split()[1]) for child in self._below(pid))
        return pages * resource.getpagesize() + self._shared_segments()

    def _shared_segments(self) -> int:
        """Returns the bytes of segments of this IPC namespace: they outlive the process that made them."""
        header, *rows = self._read("sysvipc/shm", "").splitlines() or [""]
        names = header.split()
        return sum(int(row.split()[names.index("rss")]) for row in rows) if "rss" in names else 0

    def _below(self, pid: int) -> Iterator[int]:
        """Yields the descendants of a process; some may end meanwhile."""
        try:
            folder = os.open(f"{pid}/task", os.O_RDONLY, dir_fd=self._folder)
        except OSError:
            return
        try:
            tasks = os.listdir(folder)
        except OSError:
            tasks = []
        finally:
            os.close(folder)
        for task in tasks:
            for child in map(int, self._read(f"{pid}/task/{task}/children", "").split()):
                yield child
                yield from self._below(child)

    def _read(self, name: str, otherwise: str) -> str:
        try:
            file = os.open(name, os.O_RDONLY, dir_fd=self._folder)
        except OSError:
            return otherwise
        try:
            return os.read(file, 1 << 16).decode() or otherwise
        except OSError:  # the process has ended
            return otherwise
        finally:
            os.close(file)
