import resource
import subprocess
import sys
import time

import pytest

from benchmarks.hostile_answers import FAMILIES, hostile_answers, response
from phi4r.verifiers import MathVerifier, VerifierPool
from phi4r.verifiers.exact import IntegerVerifier

HOSTILE = [
    r"9^{9^{9^{9}}}",
    r"9^9^9^9",
    r"2^{99999999}",
    r"999999999!",
    r"((9!)!)!",
    r"\binom{10^9}{10^8}",
    r"\binom{1000000000}{100000000}",
    "(" * 5000 + "1" + ")" * 5000,
    "(" * 45 + "1" + ")" * 45,
    "(x+" * 45 + "1" + ")" * 45,
    r"\sqrt{" * 45 + "2" + "}" * 45,
    r"\frac{1}{1+" * 20 + "x" + "}" * 20,
    r"\int_0^1 \int_0^1 \int_0^1 \int_0^1 \sin(x^{y^{z}}) dx dy dz dw",
    r"\sum_{k=1}^{10^{12}} \frac{1}{k^2}",
    r"\prod_{k=1}^{10^9} k",
    "7" * 100_000,
    "0." + "3" * 5000,
    "1e999999999",
    r"10^{10^{10}}",
    r"\Gamma(10^{15})",
    r"(1+x)^{99999}",
    r"\left(\left(\left(9^{99}\right)^{99}\right)^{99}\right)^{99}",
    r"\operatorname{zeros}(10^9, 10^9)",
    r"\gcd(10^{9999}, 7)",
    r"\frac{\frac{\frac{",
    r"\left( \frac{1}{2",
    r"}{}{}{\\\\^^^___",
    "^" * 300,
    r"\sqrt" * 60,
    r"\frac" * 60,
    "\x00\x01\x1b[2J\u202e42",
    "\ud800",
    r"__import__('os').system('echo pwned')",
    r"\text{" * 40,
    ",".join(str(i) for i in range(100)),
    r"\pm" * 90,
    "=" * 300,
    "|" * 300,
    r"\begin{pmatrix}" + "1 &" * 90,
    r"\cup" * 70,
    "i" * 300,
    r"\sin" * 70 + "1",
    r"e^{e^{e^{9}}}",
    r"\tan(10^{9000})",
    r"x^{y^{z}}!",
]


@pytest.mark.parametrize("gold", ["5", r"\frac{\sqrt{3}}{2}", "x^2+1"])
def test_hostile_answers_are_wrong_and_cheap(gold):
    with VerifierPool(num_workers=1, deadline_s=8.0) as pool:
        pool.warm_up(MathVerifier())
        started = time.monotonic()
        verdicts = pool.verify_all(
            MathVerifier(), [f"The final answer is {text}" for text in HOSTILE], [gold] * len(HOSTILE)
        )
        elapsed = time.monotonic() - started
    assert [text for text, verdict in zip(HOSTILE, verdicts, strict=True) if verdict.correct] == []
    late = [text for text, verdict in zip(HOSTILE, verdicts, strict=True) if verdict.status == "timeout"]
    broken = [text for text, verdict in zip(HOSTILE, verdicts, strict=True) if verdict.status == "error"]
    assert (late, broken) == ([], [])
    assert elapsed < 30.0


def test_generated_hostile_answers_cost_little_time_and_memory():
    answers = hostile_answers(20 * len(FAMILIES), seed=1)
    golds = ("5", r"\frac{\sqrt{3}}{2}", "x^2+1", r"(-\infty,3)", r"\{1,2\}")
    references = [golds[i % len(golds)] for i in range(len(answers))]
    responses = [response(answer, i) for i, (_, answer) in enumerate(answers)]
    verifier = MathVerifier(thinking=True)
    with VerifierPool(num_workers=2, deadline_s=8.0, memory_bytes=1 << 29) as pool:
        pool.warm_up(verifier)
        started = time.monotonic()
        verdicts = pool.verify_all(verifier, responses, references)
        elapsed = time.monotonic() - started
    assert {verdict.status for verdict in verdicts} <= {"ok", "no_answer"}  # none late, none out of memory
    assert not any(verdict.correct for verdict in verdicts)
    assert elapsed < 30.0  # 2 to 4 s on two quiet cores


def test_hostile_answers_are_the_same_for_the_same_seed():
    assert hostile_answers(30, seed=1) == hostile_answers(30, seed=1) != hostile_answers(30, seed=2)


def test_an_integer_verifier_reads_hostile_answers_in_milliseconds():
    answers = hostile_answers(5 * len(FAMILIES), seed=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    verdicts = [IntegerVerifier(max_digits=3)(response(answer, i), "1000") for i, (_, answer) in enumerate(answers)]
    assert time.perf_counter() - started < 5.0
    assert not any(verdict.correct for verdict in verdicts)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


@pytest.mark.parametrize(
    "hostile", ["(" * 5000, "9" * 100_000, r"\frac{" * 800, "^(" * 450, "^{" * 2000, r"\text{" * 600]
)
def test_hostile_text_never_raises_in_the_cheap_path(hostile):
    started = time.perf_counter()
    assert MathVerifier().quick(rf"answer: {hostile}", "5").correct is False
    MathVerifier().quick(r"\boxed{5}", hostile)
    assert time.perf_counter() - started < 1.0


def test_an_error_of_the_judge_is_reported_as_such(monkeypatch):
    def fail(*unused):
        raise MemoryError

    monkeypatch.setattr("phi4r.verifiers.math.same_answer", fail)
    verdict = MathVerifier()(r"\boxed{\sqrt{3}}", "y")
    assert (verdict.correct, verdict.answer, verdict.status) == (False, r"\sqrt{3}", "error")


def test_a_truncated_thought_is_no_answer():
    verdict = MathVerifier(thinking=True)(r"<think> so \boxed{5}", "5")
    assert (verdict.correct, verdict.answer, verdict.status) == (False, None, "no_answer")


def test_importing_verifiers_is_fast_and_brings_no_jax():
    code = (
        "import sys, time; t = time.perf_counter(); import phi4r.verifiers; s = time.perf_counter() - t;"
        "print(s, [m for m in ('jax', 'sympy', 'numpy', 'torch', 'latex2sympy2_extended') if m in sys.modules])"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    seconds, modules = min(run.stdout.split(" ", 1) for run in runs)
    assert float(seconds) < 0.5
    assert modules.strip() == "[]"
