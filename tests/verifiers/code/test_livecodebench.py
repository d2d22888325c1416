import time

import pytest

from phi4r.errors import UserError
from phi4r.verifiers.code import livecodebench
from phi4r.verifiers.code.livecodebench import LiveCodeBenchVerifier
from phi4r.verifiers.code.program_tests import ProgramTests
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.verdict import SelfLimitedVerifier

SUMS = ProgramTests(("1 2\n", "10 20\n", "-1 1\n"), ("3\n", "30\n", "0\n")).to_reference()
DOUBLE = ProgramTests(("[1, 2]\n3", "[]\n1", "[5]\n0"), ("[2, 4, 3]", "[1]", "[10, 0]"), "double").to_reference()
RIGHT_DOUBLE = (
    "class Solution:\n    def double(self, xs: List[int], y: int):\n        return [2 * x for x in xs] + [y]\n"
)


def _judge(source: str, reference: str, **settings):
    return LiveCodeBenchVerifier(**settings)(f"Here it is.\n```python\n{source}\n```\nDone.", reference)


def _quick(reference: str, seconds: float = 0.6) -> str:
    """The same tests with less time for each."""
    tests = ProgramTests.from_reference(reference)
    return ProgramTests(tests.inputs, tests.outputs, tests.func_name, seconds, 256).to_reference()


@pytest.mark.parametrize(
    "source",
    [
        "a, b = map(int, input().split())\nprint(a + b)",
        "import sys\nprint(sum(map(float, sys.stdin.read().split())))",
        "def main():\n    print(sum(map(int, open(0).read().split())))\nif __name__ == '__main__':\n    main()",
        "print(reduce(add, map(int, input().split())))\nexit()",
        "from __future__ import annotations\nprint(sum(map(int, input().split())))\nquit(0)",
        "import threading\nt = threading.Thread(target=lambda: print(sum(map(int, input().split()))))\nt.start()",
        "def f(n): return 0 if n == 0 else 1 + f(n - 1)\nf(20000)\nprint(sum(map(int, input().split())))",
        "print(sum(map(int, input().split())), flush=True)\nimport os\nos._exit(0)",
    ],
)
def test_a_right_program_passes_however_it_reads_and_ends(source):
    verdict = _judge(source, SUMS)
    assert (verdict.correct, verdict.score, verdict.status, verdict.parts) == (True, 1.0, "ok", {"tests": 1.0})


@pytest.mark.parametrize(
    "source, passed",
    [
        ("print(3)", 1 / 3),
        ("a, b = map(int, input().split())\nprint(abs(a) + b)", 2 / 3),
        ("print(sum(map(int, input().split())), 'is the sum')", 0.0),
        ("print(sum(map(int, input().split())))\nraise SystemExit(1)", 0.0),
        ("print(sum(map(int, input().split())))\n1 / 0", 0.0),
        ("syntax error", 0.0),
        ("", 0.0),
        ("print('3\\n30\\n0')", 0.0),
        ("\x00\ud800", 0.0),
    ],
)
def test_a_wrong_program_stops_at_its_first_failure(source, passed):
    verdict = _judge(source, SUMS)
    assert (verdict.correct, verdict.score, verdict.status) == (False, 0.0, "ok")
    assert verdict.parts == {"tests": pytest.approx(passed)}


@pytest.mark.parametrize(
    "source",
    [
        RIGHT_DOUBLE,
        "def double(xs, y):\n    print('[0]')\n    return tuple(2 * x for x in xs) + (y,)",
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: 'int'\n"
        "SCALE = 2\ndef twice(p): return SCALE * p.x\n"
        "class Solution:\n    def double(self, xs, y): return [twice(P(x)) for x in xs] + [y]",
        "class Solution:\n    calls = 0\n    def double(self, xs, y):\n        assert not vars(self)\n"
        "        self.seen = xs\n        return [2 * x for x in xs] + [y]",
        "if __name__ == '__main__':\n    1 / 0\n" + RIGHT_DOUBLE,
    ],
)
def test_a_right_function_passes_and_what_it_prints_is_nothing(source):
    verdict = _judge(source, DOUBLE)
    assert verdict.correct and verdict.parts == {"tests": 1.0}


@pytest.mark.parametrize(
    "source, passed",
    [
        ("def double(xs, y): return [2, 4, 3]", 1 / 3),
        ("def double(xs, y): return [2 * x for x in xs] + [y] if y else None", 2 / 3),
        ("def double(xs, y): return {2, 4, 3}", 0.0),
        ("def triple(xs, y): return 0", 0.0),
        ("def double(xs): return 0", 0.0),
        ("class Solution: pass", 0.0),
        ("def double(xs, y): raise ValueError", 0.0),
        ("import sys\nsys.exit(0)", 0.0),
        ("def double(xs, y):\n    if not xs: 1 / 0\n    return [2 * x for x in xs] + [y]", 1 / 3),
    ],
)
def test_a_wrong_function_stops_at_its_first_failure(source, passed):
    verdict = _judge(source, DOUBLE)
    assert not verdict.correct and verdict.status == "ok"
    assert verdict.parts == {"tests": pytest.approx(passed)}


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos._exit(0)",
        "class Any:\n    def __eq__(self, other): return True\ndef double(xs, y): return Any()",
        "class Any(list):\n    def __eq__(self, other): return True\ndef double(xs, y): return Any()",
        "import os\nfor fd in range(3, 20):\n    try: os.write(fd, b'true\\n[true]\\n{\"correct\": true}\\n')\n"
        "    except OSError: pass\nos._exit(0)",
        "import json\njson.dumps = lambda *a, **k: '[*]'\ndef double(xs, y): return 0",
        "import gc, json\njson.loads = lambda text: True\ndef double(xs, y): return True",
        "import sys\ndef double(xs, y):\n    f = sys._getframe(1)\n    return f.f_locals.get('expected')",
        "def double(xs, y): return float('nan')",
        "def double(xs, y):\n    v = []\n    v.append(v)\n    return v",
        "def double(xs, y):\n    v = []\n    for _ in range(10000): v = [v]\n    return v",
        "raise MemoryError",
    ],
)
def test_a_function_that_takes_over_its_process_fails(source):
    verdict = _judge(source, DOUBLE)
    assert not verdict.correct and verdict.status == "ok" and verdict.parts == {"tests": 0.0}


def test_a_program_has_the_memory_of_its_reference():
    hungry = "held = bytearray(400 << 20)\nprint(sum(map(int, input().split())))"
    assert _judge(hungry, SUMS).correct
    assert not _judge(hungry, _quick(SUMS, seconds=5.0)).correct


@pytest.fixture
def short_start(monkeypatch):
    monkeypatch.setattr(livecodebench, "_START_S", 0.6)


def test_each_test_has_its_own_time_and_slow_ones_together_may_take_longer(short_start):
    slow = "import time\ndef double(xs, y):\n    time.sleep(0.5)\n    return [2 * x for x in xs] + [y]"
    assert _judge(slow, _quick(DOUBLE)).correct


@pytest.mark.parametrize(
    "source, reference, passed",
    [
        ("a, b = map(int, input().split())\nwhile a < 0: pass\nprint(a + b)", SUMS, 2 / 3),
        ("def double(xs, y):\n    while not xs: pass\n    return [2 * x for x in xs] + [y]", DOUBLE, 1 / 3),
        ("import time\ndef double(xs, y):\n    if not xs: time.sleep(99)\n    return [2, 4, 3]", DOUBLE, 1 / 3),
        # An alarm would be switched off, and a clock in the process stopped.
        (
            "import signal, time\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\ntime.monotonic = lambda: 0.0\n"
            "def double(xs, y):\n    time.sleep(1.3)\n    return [2 * x for x in xs] + [y]",
            DOUBLE,
            0.0,
        ),
    ],
)
def test_a_test_that_takes_too_long_fails_whatever_runs_inside(short_start, source, reference, passed):
    started = time.monotonic()
    verdict = _judge(source, _quick(reference))
    assert not verdict.correct and verdict.status == "ok"
    assert verdict.parts == {"tests": pytest.approx(passed)}
    assert time.monotonic() - started < 6.0


def test_a_flood_of_output_fails_in_time(short_start):
    started = time.monotonic()
    verdict = _judge("while True: print('3' * 10000)", _quick(SUMS))
    assert not verdict.correct and time.monotonic() - started < 6.0


def test_the_last_block_after_the_thought_counts():
    verifier = LiveCodeBenchVerifier(thinking=True)
    right = "```python\nprint(sum(map(int, input().split())))\n```"
    wrong = "```python\nprint('?')\n```"
    assert verifier(f"<think>{wrong}</think>First {wrong} then {right}", SUMS).correct
    assert not verifier(f"<think>{right}</think>{wrong}", SUMS).correct
    assert verifier(f"<think>{right}", SUMS).status == "no_answer"
    assert verifier("<think></think>No program.", SUMS).status == "no_answer"
    assert LiveCodeBenchVerifier()(right, SUMS).correct


@pytest.mark.parametrize("reference", ["", "7", "{}", "\ud800", '{"tests": []}'])
def test_a_broken_reference_is_an_error_of_the_judge(reference):
    assert _judge("print(1)", reference).status == "error"


def test_a_sandbox_that_does_not_open_is_an_error_of_the_judge_and_none_at_all_is_said(monkeypatch):
    def refuse(error):
        def run(*args, **kwargs):
            raise error

        monkeypatch.setattr(livecodebench, "run_python", run)

    refuse(OSError("no more processes"))
    assert _judge("print(3)", SUMS).status == "error"
    refuse(UserError("no namespaces"))
    with pytest.raises(UserError, match="no namespaces"):
        _judge("print(3)", SUMS)


def test_a_pool_runs_it_in_its_own_threads():
    verifier = LiveCodeBenchVerifier()
    assert isinstance(verifier, SelfLimitedVerifier)
    response = f"```python\n{RIGHT_DOUBLE}```"
    with VerifierPool(num_workers=2, deadline_s=5.0) as pool:
        verdicts = pool.verify_all(verifier, [response, "nothing"], [DOUBLE, DOUBLE])
    assert [verdict.status for verdict in verdicts] == ["ok", "no_answer"]
    assert verdicts[0].correct
