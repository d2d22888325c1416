import importlib
import os
import pathlib
import signal
import threading
import time

import pytest

from phi4r.errors import UserError
from phi4r.verifiers import IntegerVerifier, MathVerifier, VerifierPool, verify_all
from phi4r.verifiers.verdict import Verdict


@pytest.fixture(scope="module")
def probe():
    """A misbehaving verifier whose module the workers can import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(pathlib.Path(__file__).parent))
        from probe_verifiers import Probe

        yield Probe()


@pytest.fixture(scope="module")
def pool(probe):
    with VerifierPool(num_workers=1, deadline_s=2.0, memory_bytes=512 << 20) as pool:
        yield pool


def test_verdicts_come_back_in_order(probe):
    texts = [f"text {i} " + "x" * (1 if i % 7 else 200_000) for i in range(60)]
    references = [text if i % 3 else "other" for i, text in enumerate(texts)]
    with VerifierPool(num_workers=2) as pool:
        verdicts = pool.verify_all(probe, texts, references)
    assert [verdict.answer for verdict in verdicts] == texts
    assert [verdict.correct for verdict in verdicts] == [i % 3 != 0 for i in range(60)]


@pytest.mark.parametrize("hang", ["sleep", "spin"])
def test_a_late_worker_is_killed_replaced_and_counted(probe, pool, hang):
    before = pool.counts.copy()
    started = time.monotonic()
    first, late, second = pool.verify_all(probe, ["a", hang, "b"], ["pid", "pid", "pid"])
    assert time.monotonic() - started < 15.0
    assert late == Verdict(False, 0.0, None, "timeout")
    assert first.status == second.status == "ok"
    assert first.answer != second.answer  # another process
    assert not pathlib.Path(f"/proc/{first.answer}").exists()
    assert pool.counts - before == {"ok": 2, "timeout": 1}


@pytest.mark.parametrize("breakage", ["exit", "abort", "raise", "memory", "garbage"])
def test_a_crash_is_an_error_and_not_a_wrong_answer(probe, pool, breakage):
    before = pool.counts.copy()
    broken, after = pool.verify_all(probe, [breakage, "fine"], ["fine", "fine"])
    assert broken == Verdict(False, 0.0, None, "error")
    assert after == Verdict(True, 1.0, "fine", "ok")
    assert pool.counts - before == {"ok": 1, "error": 1}


def test_what_a_verifier_prints_is_not_taken_for_its_verdict(probe, pool):
    printed, after = pool.verify_all(probe, ["print", "fine"], ["elsewhere", "fine"])
    assert printed == Verdict(False, 0.0, "print", "ok")
    assert after.correct


def test_a_worker_cannot_write_files(probe, pool, tmp_path):
    target = tmp_path / "file"
    (verdict,) = pool.verify_all(probe, ["write"], [str(target)])
    assert verdict.status == "error"
    assert not target.exists() or target.read_text() == ""


def test_workers_have_neither_jax_nor_the_environment_of_the_parent(probe, monkeypatch):
    monkeypatch.setenv("PHI4R_TEST_SECRET", "hunter2")
    verdicts = verify_all(probe, ["a", "b"], ["jax", "secret"], num_workers=1)
    assert [verdict.answer for verdict in verdicts] == ["False", "None"]


def test_the_settings_of_a_verifier_reach_the_worker(probe, pool):
    verifier = type(probe)(tag='a "quoted" tag', numbers=(1, 2, 3))
    (verdict,) = pool.verify_all(verifier, ["x"], ["settings"])
    assert verdict.answer == repr(verifier)


def test_surrogates_and_control_characters_survive_the_pipe(probe, pool):
    text = "\x00\x1b\ud800\n\r\u2028\U0001f600"
    (verdict,) = pool.verify_all(probe, [text], [text])
    assert verdict == Verdict(True, 1.0, text, "ok")


def test_a_pool_works_off_the_main_thread(probe, pool):
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.extend(pool.verify_all(probe, ["a", "sleep"], ["a", "a"])))
    thread.start()
    thread.join(timeout=30)
    assert [verdict.status for verdict in verdicts] == ["ok", "timeout"]


def test_a_worker_that_died_between_batches_costs_no_verdict(probe, pool):
    (verdict,) = pool.verify_all(probe, ["a"], ["pid"])
    os.kill(int(verdict.answer), signal.SIGKILL)
    time.sleep(0.2)
    (verdict,) = pool.verify_all(probe, ["a"], ["a"])
    assert verdict.correct


def test_integers_never_start_a_worker(monkeypatch):
    def refuse(*unused, **unused_too):
        raise AssertionError("a worker was started")

    monkeypatch.setattr("phi4r.verifiers.pool.WorkerProcess", refuse)
    thought = "<think>" + "so 7 * 8 = \\boxed{55}? " * 4000 + "</think>"
    responses = [thought + rf"The answer is $\boxed{{{i:03d}}}$." for i in range(256)]
    references = [str(i + i % 2) for i in range(256)]
    started = time.monotonic()
    for verifier in (MathVerifier(thinking=True), IntegerVerifier(thinking=True)):
        verdicts = verify_all(verifier, responses, references)
        assert [verdict.correct for verdict in verdicts] == [i % 2 == 0 for i in range(256)]
    assert time.monotonic() - started < 2.0


def test_a_verdict_is_reached_while_the_caller_goes_on(probe, pool):
    before = pool.counts.copy()
    started = time.monotonic()
    futures = [pool.submit(probe, text, "fine") for text in ("sleep", "fine", "exit", "fine")]
    assert time.monotonic() - started < 1.0  # the first takes its deadline of 2 s
    assert not futures[0].done()
    assert [future.result().status for future in futures] == ["timeout", "ok", "error", "ok"]
    assert pool.counts - before == {"ok": 2, "timeout": 1, "error": 1}


def test_the_cheap_path_is_taken_at_once(pool):
    future = pool.submit(IntegerVerifier(), "\\boxed{33}", "33")
    assert future.done() and future.result() == Verdict(True, 1.0, "33", "ok")


def test_a_worker_that_cannot_be_replaced_is_an_error_once_the_verifier_has_worked(probe, monkeypatch):
    def refuse(*unused):
        raise OSError("no memory for another process")

    with VerifierPool(num_workers=1, deadline_s=1.0) as pool:
        assert pool.verify_all(probe, ["a"], ["a"])[0].correct
        monkeypatch.setattr("phi4r.verifiers.pool.WorkerProcess", refuse)
        verdicts = pool.verify_all(probe, ["exit", "a"], ["a", "a"])
        assert verdicts == [Verdict(False, 0.0, None, "error")] * 2
        assert pool.counts == {"ok": 1, "error": 2}
        monkeypatch.undo()
        assert pool.verify_all(probe, ["a"], ["a"])[0].correct  # there is memory again


def test_closing_a_pool_ends_its_workers(probe):
    with VerifierPool(num_workers=1) as pool:
        (verdict,) = pool.verify_all(probe, ["a"], ["pid"])
        assert pathlib.Path(f"/proc/{verdict.answer}").exists()
    assert not pathlib.Path(f"/proc/{verdict.answer}").exists()


def test_bad_input_is_refused_with_a_reason(probe, pool):
    with pytest.raises(UserError, match="2 responses but 1 references"):
        pool.verify_all(probe, ["a", "b"], ["a"])
    with pytest.raises(UserError, match="frozen dataclass"):
        pool.verify_all(lambda response, reference: None, ["a"], ["a"])
    with pytest.raises(UserError, match="num_workers"):
        VerifierPool(num_workers=0)


def test_a_verifier_that_cannot_be_loaded_is_refused_with_a_reason(probe, pool, tmp_path, monkeypatch):
    source = pathlib.Path(__file__).parent / "probe_verifiers.py"
    (tmp_path / "vanishing.py").write_text(source.read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    vanishing = importlib.import_module("vanishing")
    (tmp_path / "vanishing.py").unlink()
    with pytest.raises(UserError, match="No module named 'vanishing'"):
        pool.verify_all(vanishing.Probe(), ["a"], ["a"])
    (verdict,) = pool.verify_all(probe, ["a"], ["a"])
    assert verdict.correct
