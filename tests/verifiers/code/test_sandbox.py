"""Attacks on the sandbox, each of which would do harm if it were run as any other program."""

import concurrent.futures
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from phi4r.errors import UserError
from phi4r.verifiers.code import sandbox
from phi4r.verifiers.code.sandbox import Finished, Limits, run_python, sandbox_available

pytestmark = pytest.mark.skipif(
    sandbox_available() is not None, reason=f"no sandbox on this machine: {sandbox_available()}"
)
SHORT = Limits(wall_s=1.0)


def _run(program: str, limits: Limits = SHORT, **more) -> Finished:
    return run_python(program, limits=limits, **more)


def _wait_until_gone(mark: str) -> bool:
    """Whether no process on the machine has `mark` in its command line, soon."""
    for _ in range(50):
        lines = [path.read_bytes() for path in _command_lines()]
        if not any(mark.encode() in line for line in lines):
            return True
        time.sleep(0.02)
    return False


def _command_lines():
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        path = process / "cmdline"
        try:
            path.read_bytes()
        except OSError:
            continue
        yield path


def test_a_program_reads_its_input_and_files_and_writes_both_streams():
    program = (
        "import sys\nprint(sys.stdin.read()[::-1], open('data.txt').read())\nprint('note', file=sys.stderr)\n"
        "open('own.txt', 'w').write('x')\nprint(open('own.txt').read())"
    )
    finished = _run(program, stdin=b"abc", files={"data.txt": b"4\xc3\xa9"})
    assert finished.status == "ok" and finished.exit_code == 0
    assert finished.stdout == "cba 4é\nx\n".encode()
    assert finished.stderr == b"note\n"
    assert 0 < finished.seconds < 1


@pytest.mark.parametrize(
    "program, status, exit_code",
    [
        ("", "ok", 0),
        ("raise SystemExit(3)", "crashed", 3),
        ("1 / 0", "crashed", 1),
        ("not python", "crashed", 1),
        ("\ud800", "crashed", 1),
        ("print('\x00')", "crashed", 1),
        ("import os; os._exit(0)", "ok", 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "crashed", -9),
        ("import os; os.abort()", "crashed", -6),
        ("import ctypes; ctypes.string_at(0)", "crashed", -11),
        ("(lambda f: f(f))(lambda f: f(f))", "crashed", 1),
        ("import sys; sys.setrecursionlimit(10**9)\ndef f(): return repr([f()])\nclass R:\n"
         "    def __repr__(self): return str(self)\nprint(R())", "crashed", -11),
        ("x = eval('(' * 10**5)", "crashed", 1),
        ("while True: pass", "timeout", None),
        ("import time; time.sleep(60)", "timeout", None),
        ("import signal, time\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
         "    except (OSError, ValueError): pass\nwhile True: time.sleep(1)", "timeout", None),
        ("while True: print('x' * 1000)", "output_limit", None),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000)", "output_limit", None),
        ("x = bytearray(1 << 40)", "memory", 1),
    ],
)  # fmt: skip
def test_a_program_ends_as_is_said(program, status, exit_code):
    start = time.monotonic()
    finished = _run(program)
    assert (finished.status, finished.exit_code) == (status, exit_code), finished.stderr[-500:]
    assert time.monotonic() - start < 6


def test_memory_that_is_taken_piece_by_piece_ends_at_its_limit():
    limits = Limits(wall_s=10.0, memory_bytes=1 << 28)  # pages are dear on a busy machine: not too many of them
    finished = _run("x = []\nwhile True: x.append(bytearray(1 << 20))", limits)
    assert (finished.status, finished.exit_code) == ("memory", 1), finished.stderr[-500:]


def test_output_is_kept_up_to_the_limit():
    finished = _run("import sys\nwhile True: sys.stdout.write('ab')", Limits(output_bytes=1001))
    assert finished.status == "output_limit"
    assert finished.stdout == (b"ab" * 501)[:1001]
    exact = _run("import sys; sys.stdout.write('a' * 1000); sys.stdout.flush()", Limits(output_bytes=1000))
    assert exact.status == "ok" and len(exact.stdout) == 1000


def test_processor_time_is_limited_also_where_the_signal_is_ignored():
    spin = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    assert _run("while True: pass", Limits(cpu_s=1)).status == "timeout"
    assert _run(spin, Limits(cpu_s=1)).status == "timeout"


def test_a_fork_bomb_meets_the_limit_of_processes():
    program = (
        "import os, time\ncount = 0\n"
        "while True:\n    try: pid = os.fork()\n    except OSError: break\n"
        "    if pid == 0: time.sleep(60)\n    count += 1\n"
        "print(count, flush=True)"
    )
    finished = _run(program, Limits(processes=8))
    assert finished.status == "ok"
    assert 7 <= int(finished.stdout) <= 10
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert _run(bomb).status == "timeout"
    assert _run("print('still alive')").stdout == b"still alive\n"


def test_threads_count_as_processes_and_a_few_are_allowed():
    start = "import threading, time\nthreads = [threading.Thread(target=time.sleep, args=(0.1,)) for _ in range({})]\n"
    start += "for thread in threads: thread.start()\nprint('done')"
    assert _run(start.format(4)).stdout == b"done\n"
    assert b"can't start new thread" in _run(start.format(100)).stderr


@pytest.mark.parametrize(
    "hoard",
    [
        "children = [os.fork() for _ in range(2)]\nx = bytearray(os.urandom(1)) * (40 << 20)",
        # A segment of System V lives on when nothing is attached to it.
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.shmat.restype = ctypes.c_void_p\nfor _ in range(20):\n"
        "    at = libc.shmat(libc.shmget(0, 20 << 20, 0o1600), None, 0)\n    ctypes.memset(at, 1, 20 << 20)\n"
        "    libc.shmdt(ctypes.c_void_p(at))",
    ],
)
def test_memory_is_limited_over_all_processes_together(hoard):
    finished = _run(f"import os, time\n{hoard}\ntime.sleep(60)", Limits(memory_bytes=100 << 20, wall_s=5))
    assert finished.status == "memory"
    assert finished.exit_code is None and finished.seconds < 4


def test_there_is_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = (
            f"import socket\nfor address in [('127.0.0.1', {port}), ('1.1.1.1', 53)]:\n"
            "    try: socket.create_connection(address, timeout=1)\n    except OSError as e: print(e.errno)\n"
            "    else: print('connected')\nprint(socket.if_nameindex())"
        )
        assert _run(program).stdout.split(b"\n")[:3] == [b"101", b"101", b"[(1, 'lo')]"]


def test_nothing_can_be_written_outside_of_the_box(tmp_path, repository):
    targets = [tmp_path, tempfile.gettempdir(), pathlib.Path.home(), repository, "/", "/usr", "/etc", "/dev", "/lib"]
    targets += [sys.base_prefix, "/proc", "/var/tmp", "/dev/shm", "/root", "..", "."]
    program = (
        "import os\nwritten = set()\n"
        f"for folder in {list(map(str, targets))!r}:\n"
        "    for attack in (lambda: open(folder + '/mark', 'w'), lambda: os.mkdir(folder + '/mark'),\n"
        "                   lambda: os.symlink('x', folder + '/mark'), lambda: os.chmod(folder, 0o777),\n"
        "                   lambda: os.rename(folder, folder + '2'), lambda: os.mknod(folder + '/pipe')):\n"
        "        try: attack()\n        except OSError: continue\n        written.add(folder)\n"
        "print(written)"
    )
    assert _run(program).stdout == b"{'.'}\n"


def test_symbolic_links_lead_nowhere(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("word")
    program = (
        f"import os\nos.symlink({str(secret)!r}, 'a'); os.symlink('/proc/1/root', 'b'); os.symlink('../../..', 'c')\n"
        f"for path in ('a', 'b/etc/passwd', 'c{secret}', '/etc/passwd', '/etc/shadow'):\n"
        "    try: print(open(path).read())\n    except OSError: pass\nprint('tried')"
    )
    assert _run(program).stdout == b"tried\n"


def test_the_parent_and_its_environment_cannot_be_seen(monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_PARENT", "word")
    program = (
        "import os, glob\nprint(sorted(os.environ), os.path.exists('/proc/self'), os.path.exists('/sys/kernel'))\n"
        "for path in glob.glob('/proc/*/environ') + glob.glob('/proc/*/mem'):\n    print(path)\n"
        "print(os.getppid(), os.getuid() == os.geteuid() == 65534)"
    )
    assert _run(program).stdout == b"['LC_CTYPE'] False False\n1 True\n"


def test_the_parent_and_its_other_processes_cannot_be_killed():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        program = (
            f"import os\nfor pid in ({os.getpid()}, {bystander.pid}, os.getppid(), 1, 0, -1):\n"
            "    for number in (2, 9, 15, 19):\n"
            "        if pid == 0: os.setpgid(0, 0); continue\n"
            "        try: os.kill(pid, number)\n        except OSError: pass\n"
            "print('tried')"
        )
        assert _run(program).stdout == b"tried\n"
        assert bystander.poll() is None
        bystander.kill()


def test_a_daemon_does_not_outlive_the_program():
    mark = f"mark_{os.getpid()}_{time.monotonic_ns()}"
    program = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        for fd in (0, 1, 2): os.close(fd)\n"
        f"        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)', {mark!r}])\n"
        "    os._exit(0)\n"
        "time.sleep(0.2)\nprint('started')"
    )
    start = time.monotonic()
    assert _run(program).stdout == b"started\n"
    assert time.monotonic() - start < 3
    assert _wait_until_gone(mark)


def test_a_daemon_that_holds_the_output_open_does_not_hold_up_the_parent():
    finished = _run("import os, time\nif os.fork() == 0:\n    time.sleep(60)\nprint('over')", Limits(wall_s=10))
    assert finished.status == "ok" and finished.stdout == b"over\n"
    assert finished.seconds < 3


def test_files_are_limited_one_by_one_and_together():
    program = (
        "try:\n    with open('one', 'wb') as file:\n        while True: file.write(bytes(1 << 16))\n"
        "except OSError as error: print(error.errno)\n"
        "total = 0\ntry:\n    for index in range(10**6):\n        with open(f'many{index}', 'wb') as file:\n"
        "            total += file.write(bytes(1 << 20))\n"
        "except OSError as error: print(error.errno, total >> 20)"
    )
    first, second = _run(program, Limits(wall_s=10)).stdout.splitlines()
    assert first == b"27"  # EFBIG
    errno, megabytes = map(int, second.split())
    assert errno == 28 and 8 <= megabytes <= 17  # ENOSPC
    count = "import os\ntry:\n    for i in range(10**6): os.close(os.open(str(i), os.O_CREAT))\n"
    assert _run(count + "except OSError as error: print(error.errno)", Limits(wall_s=10)).stdout == b"28\n"


def test_reading_input_forever_ends_with_the_input():
    program = "import sys\ncount = 0\nwhile sys.stdin.read(1): count += 1\nprint(count)"
    assert _run(program, stdin=b"x" * 5000).stdout == b"5000\n"
    assert _run("import sys; print(repr(sys.stdin.buffer.read()))").stdout == b"b''\n"
    assert _run("input()").status == "crashed"


def test_closed_descriptors_change_nothing_for_the_parent():
    program = (
        "import os\nos.write(1, b'before')\nfor fd in range(200):\n    try: os.close(fd)\n    except OSError: pass\n"
    )
    assert _run(program).stdout == b"before"
    start = time.monotonic()
    assert _run(program + "while True: pass").status == "timeout"
    assert time.monotonic() - start < 3


def test_only_the_three_streams_are_open():
    program = "import os\nfor fd in range(500):\n    try: os.fstat(fd)\n    except OSError: continue\n    print(fd)"
    assert _run(program).stdout == b"0\n1\n2\n"


def test_a_printed_verdict_is_nothing_but_output():
    text = '{"exit": 0, "cpu_s": 0, "started": true, "memory": 1}\n'
    finished = _run(f"import sys; sys.stdout.write({text!r}); sys.stderr.write({text!r}); sys.exit(7)")
    assert (finished.status, finished.exit_code) == ("crashed", 7)
    assert finished.stdout == finished.stderr == text.encode()


def test_rights_cannot_be_regained():
    program = (
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "print([libc.unshare(flag) for flag in (0x10000000, 0x20000, 0x40000000)])\n"
        "print(libc.mount(b'none', b'/box', b'tmpfs', 0, b''), libc.umount2(b'/usr', 2), libc.chroot(b'/box'))\n"
        "print(libc.mount(b'none', b'/usr', None, 32 | 4096, b''), libc.setuid(0), libc.ptrace(16, 1, 0, 0))\n"
        "print(libc.prctl(39, 0, 0, 0, 0), libc.sethostname(b'x', 1))"
    )
    assert _run(program).stdout == b"[-1, -1, -1]\n-1 -1 -1\n-1 -1 -1\n1 -1\n"


def test_the_folder_of_a_program_is_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _run("open('left', 'w').write('x')")
    _run("while True: pass", Limits(wall_s=0.2))
    assert list(tmp_path.iterdir()) == []


def test_sandboxes_run_side_by_side_from_threads():
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        outputs = list(threads.map(lambda n: _run(f"print({n})", Limits()).stdout, range(24)))
    assert outputs == [f"{n}\n".encode() for n in range(24)]


def test_what_runs_ends_with_a_parent_that_is_killed(tmp_path):
    mark = f"mark_{os.getpid()}_{time.monotonic_ns()}"
    inner = f"import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'while True: pass', {mark!r}])"
    code = f"from phi4r.verifiers.code.sandbox import run_python\nrun_python({inner!r})"
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}) as parent:
        for _ in range(300):
            running = [line for line in _command_lines() if mark.encode() in line.read_bytes().split(b"\0")]
            if running:
                break
            time.sleep(0.02)
        assert running
        parent.send_signal(signal.SIGKILL)
    assert _wait_until_gone(mark)


def test_a_file_outside_of_the_box_cannot_be_asked_for():
    with pytest.raises(ValueError, match="plain file name"):
        _run("", files={"../x": b""})


@pytest.fixture
def no_namespaces(monkeypatch):
    """A machine that does not allow them."""
    monkeypatch.setattr(sandbox, "sandbox_available", lambda: "user namespaces are not allowed")


def test_without_namespaces_nothing_runs_unless_told(no_namespaces):
    with pytest.raises(UserError, match=r"user namespaces are not allowed; .* unprotected=True"):
        _run("print(1)")


@pytest.mark.parametrize(
    "program, status",
    [
        ("print(open('a').read())", "ok"),
        ("while True: pass", "timeout"),
        ("while True: print('x' * 1000)", "output_limit"),
        ("x = bytearray(1 << 40)", "memory"),
        ("import os\nif os.fork() == 0:\n    while True: pass", "ok"),
    ],
)
def test_unprotected_programs_keep_their_limits(no_namespaces, program, status):
    start = time.monotonic()
    finished = _run(program, unprotected=True, files={"a": b"1"})
    assert finished.status == status
    assert time.monotonic() - start < 5


def test_a_machine_that_refuses_says_why(monkeypatch, tmp_path):
    launcher = tmp_path / "launcher"
    launcher.mkdir()
    (launcher / "__main__.py").write_text(
        'import os, sys\nos.write(int(sys.argv[2]), b\'{"failed": "namespaces are off"}\\n\')\n'
    )
    monkeypatch.setattr(sandbox, "_LAUNCHER", launcher)
    assert sandbox_available.__wrapped__() == "namespaces are off"
    with pytest.raises(OSError, match="namespaces are off"):
        _run("print(1)")
