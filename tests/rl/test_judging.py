import concurrent.futures
import dataclasses
import importlib
import pathlib
import threading

import numpy as np
import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.tasks import Task
from phi4r.rl import judging
from phi4r.rl.judging import Judge
from phi4r.rl.reward_parts import RewardPart
from phi4r.rl.rewards import RewardSettings
from phi4r.text.chat import load_chat
from phi4r.verifiers import IntegerVerifier, VerifierPool
from phi4r.verifiers.verdict import Verdict, failed, judged

PROBLEMS = [Problem("p0", "3 +4 =", "7", {"word": "sleep"}), Problem("p1", "4 +4 =", "8", {"word": "fine"})]
PAPER = RewardSettings()


@pytest.fixture(scope="module")
def chat(policy_folder):
    return load_chat(policy_folder)


@pytest.fixture(scope="module")
def probe():
    """A misbehaving verifier whose module the workers can import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(pathlib.Path(__file__).parent.parent / "verifiers"))
        from probe_verifiers import Probe

        yield Probe()


def ids_of(chat, text, *, ended=True):
    ids = chat.tokenizer.encode(text, specials=True)
    return np.array(ids + [chat.tokenizer.eos_id] * ended, np.int32)


def judge_all(chat, responses, *, pool=None, verifier=None, order=None, stopped=None, reward=PAPER, fallback=None):
    """The judgements of two responses to each problem, which end in the order given."""
    task = Task("sums", tuple(PROBLEMS), verifier or IntegerVerifier())
    with pool or VerifierPool(num_workers=1) as pool:
        judge = Judge(chat, task, pool, reward, fallback)
        with judge.judging(PROBLEMS, 2) as batch:
            for row in order or range(4):
                ended = stopped is None or stopped[row]
                batch.finished(row, ids_of(chat, responses[row], ended=ended), ended)
            return batch.results()


BOXED = [f"<think></think>\\boxed{{{digit}}}" for digit in (7, 1, 1, 8)]


def test_judgements_come_in_the_order_of_rows_whatever_ended_first(chat):
    found = judge_all(chat, BOXED, order=[2, 0, 3, 1])
    assert [judgement.text for judgement in found] == BOXED
    assert [judgement.verdict.correct for judgement in found] == [True, False, False, True]
    assert [judgement.verdict.answer for judgement in found] == ["7", "1", "1", "8"]


def test_format_and_repetition_are_those_of_the_response(chat):
    responses = [BOXED[0], "\\boxed{1}", "<think> <think></think> 1", "<think></think>" + " =" * 12 + "\\boxed{8}"]
    found = judge_all(chat, responses)
    assert [judgement.think_ok for judgement in found] == [True, False, False, True]
    assert [judgement.repetition for judgement in found[:3]] == [0, 0, 0]
    assert found[3].repetition == pytest.approx(-35 / 13)  # 13 words, 9 5-grams, one of them 7 times


def test_a_cut_off_response_keeps_its_last_token(chat):
    found = judge_all(chat, BOXED, stopped=[True, False, True, True])
    assert [judgement.text for judgement in found] == BOXED


@dataclasses.dataclass
class WaitingPool:
    """Gives no verdict before it is told to."""

    asked: list = dataclasses.field(default_factory=list)
    told: threading.Event = dataclasses.field(default_factory=threading.Event)
    begun: threading.Event = dataclasses.field(default_factory=threading.Event)

    def __enter__(self):
        self._threads = concurrent.futures.ThreadPoolExecutor(8)
        return self

    def __exit__(self, *unused):
        self._threads.shutdown()

    def submit(self, verifier, response, reference):
        self.asked.append(response)
        self.begun.set()
        return self._threads.submit(lambda: self.told.wait(timeout=30) and judged(response, True))


def test_judging_begins_while_others_still_decode(chat):
    task = Task("sums", tuple(PROBLEMS), IntegerVerifier())
    with WaitingPool() as pool, Judge(chat, task, pool, PAPER).judging(PROBLEMS, 2) as batch:
        batch.finished(3, ids_of(chat, BOXED[3]), True)  # returns without a verdict
        assert pool.begun.wait(timeout=30) and pool.asked == [BOXED[3]]
        for row in range(3):
            batch.finished(row, ids_of(chat, BOXED[row]), True)
        pool.told.set()
        assert [judgement.verdict.answer for judgement in batch.results()] == BOXED


def test_a_verifier_that_hangs_or_crashes_costs_its_own_verdicts(chat, probe):
    pool = VerifierPool(num_workers=1, deadline_s=1.0)
    found = judge_all(chat, ["7", "sleep", "exit", "8"], pool=pool, verifier=probe)
    statuses = [judgement.verdict.status for judgement in found]
    assert statuses == ["ok", "timeout", "error", "ok"]
    assert [judgement.verdict.correct for judgement in found] == [True, False, False, True]
    assert pool.counts == {"ok": 2, "timeout": 1, "error": 1}


def test_a_verifier_that_cannot_be_loaded_stops_the_run_with_one_line(chat, tmp_path, monkeypatch):
    (tmp_path / "gone.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    gone = importlib.import_module("gone")

    @dataclasses.dataclass(frozen=True)
    class Gone:
        def __call__(self, response, reference):
            return judged(response, True)

    Gone.__module__, Gone.__qualname__ = "gone", "Gone"
    gone.Gone = Gone  # in this process, and in no other
    with pytest.raises(UserError, match=r"cannot load the verifier: .*Gone"):
        judge_all(chat, BOXED, verifier=Gone())


# Parts of the reward


def test_a_part_of_the_reward_is_scored_by_its_verifier_against_its_reference(chat, probe):
    part = RewardPart("word", verifier=f"{type(probe).__module__}:Probe", reference="word")
    found = judge_all(chat, ["7", "fine", "fine", "8"], reward=RewardSettings(parts=(*PAPER.parts, part)))
    assert [judgement.scores["word"].score for judgement in found] == [0, 0, 1, 0]
    assert [list(judgement.scores) for judgement in found] == [["word"]] * 4


def test_a_part_that_cannot_be_judged_is_refused_before_anything_is_sampled(chat):
    reward = RewardSettings(parts=(RewardPart("word", verifier="phi4r.verifiers:MathVerifier", reference="missing"),))
    with pytest.raises(UserError, match=r"meta\['missing'\]"):
        judge_all(chat, BOXED, reward=reward)


# The fallback


def test_the_fallback_is_asked_only_about_whole_responses_without_an_answer(chat):
    asked = []

    def fallback(problem, text):
        asked.append((problem.id, text))
        return judged("eight", True)

    responses = [BOXED[0], "<think></think> no", "<think></think> ei", "<think></think> eight"]
    found = judge_all(chat, responses, stopped=[True, True, False, True], fallback=fallback)
    assert asked == [("p0", responses[1]), ("p1", responses[3])]
    assert found[3].verdict == Verdict(True, 1.0, "eight", "ok")
    assert [judgement.verdict.status for judgement in found] == ["ok", "ok", "no_answer", "ok"]


@pytest.mark.parametrize("answer", [RuntimeError("no connection"), "yes"])
def test_a_fallback_that_fails_costs_one_verdict(chat, answer):
    def fallback(problem, text):
        if problem.id == "p1":
            return judged("one", True)
        if isinstance(answer, Exception):
            raise answer
        return answer

    responses = ["<think></think> no", BOXED[0], "<think></think> one", BOXED[3]]
    found = judge_all(chat, responses, fallback=fallback)
    assert [judgement.verdict.status for judgement in found] == ["error", "ok", "ok", "ok"]
    assert found[0].verdict == failed("error")


# Several hosts


def test_every_response_is_judged_on_one_host(chat, monkeypatch):
    """Two hosts, one after the other: what the first found is what the second gathers before its own."""
    own = []

    def on_host(number, collect):
        monkeypatch.setattr(judging, "host_slice", lambda n: slice(number * n // 2, (number + 1) * n // 2))
        monkeypatch.setattr(judging, "gather", collect)
        with VerifierPool(num_workers=1) as pool:
            return judge_all(chat, BOXED, pool=pool), pool.counts

    def first(items):
        own.extend(items)
        return items * 2  # the second host's are of no interest here

    _, counts = on_host(0, first)
    assert counts == {"ok": 2}
    found, counts = on_host(1, lambda items: own + items)
    assert counts == {"ok": 2}
    assert [judgement.text for judgement in found] == BOXED
    assert [judgement.verdict.answer for judgement in found] == ["7", "1", "1", "8"]
    assert found == judge_alone(chat)


def judge_alone(chat):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "host_slice", slice)
        patch.setattr(judging, "gather", lambda items: items)
        return judge_all(chat, BOXED)
