import collections
import subprocess
import sys
import threading
import time

import pytest

from phi4r.curation.asking.ask_cache import AnswerCache, open_answers
from phi4r.curation.asking.asking import Asker, ServerGoneError, is_answer, shortcoming
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from tests.curation.speaking import Speaker, speaker, user


@pytest.fixture
def cache(tmp_path):
    return AnswerCache(tmp_path / "cache")


def echo(prompt, sample):
    return f"{prompt} {sample}"


def texts(answers):
    return [[answer.text for answer in of] for of in answers]


def test_answers_come_in_the_order_of_questions_and_samples(cache):
    _, ask = speaker(echo, cache=cache)
    assert texts(ask(user("a", "b"), num_samples=2)) == [["a 0", "a 1"], ["b 0", "b 1"]]
    assert texts(ask(user("b", "c"), sample_ids=[[5, 1], []])) == [["b 5", "b 1"], []]


def test_nothing_is_asked_twice(cache):
    model, ask = speaker(echo, cache=cache)
    first = ask(user("a", "b"), num_samples=2)
    assert ask(user("a", "b"), num_samples=2) == first
    ask(user("b", "c"), num_samples=3)
    # By hand: a0 a1 b0 b1, then b2, c0 c1 c2.
    assert sorted(model.asked) == [(p, s) for p, n in (("a", 2), ("b", 3), ("c", 3)) for s in range(n)]
    assert ask.counts["asked"] == 8 and ask.counts["hits"] == 4 + 2
    assert ask.counts["tokens"] == 2 * 8


def test_the_same_question_twice_in_a_batch_is_asked_once(cache):
    model, ask = speaker(echo, cache=cache)
    assert texts(ask(user("a", "b", "a"))) == [["a 0"], ["b 0"], ["a 0"]]
    assert model.asked == [("a", 0), ("b", 0)]


@pytest.mark.parametrize(
    "other",
    [
        {"identity": {"model": "n", "temperature": 0.5}},
        {"identity": {"model": "m", "temperature": 0.6}},
        {"seed": 1},
    ],
)
def test_another_model_temperature_or_seed_is_another_question(cache, other):
    model = Speaker(echo)
    usual = {"identity": {"model": "m", "temperature": 0.5}, "seed": 0}
    Asker(model, cache=cache, **usual)(user("a"))
    Asker(model, cache=cache, **{**usual, **other})(user("a"))
    assert len(model.asked) == 2
    Asker(model, cache=cache, **usual)(user("a"))
    assert len(model.asked) == 2


def test_a_system_message_makes_another_question(cache):
    model, ask = speaker(echo, cache=cache)
    ask(user("a"))
    ask([[{"role": "system", "content": "Think hard."}, *user("a")[0]]])
    assert len(model.asked) == 2


def test_a_question_that_fails_spoils_no_other_and_is_asked_again(cache):
    broken = {"b"}
    model, ask = speaker(lambda p, s: UserError("answers 429: slow down") if p in broken else echo(p, s), cache=cache)
    answers = ask(user("a", "b", "c"), num_samples=2)
    assert [[is_answer(one) for one in of] for of in answers] == [[True] * 2, [False] * 2, [True] * 2]
    assert answers[1][0].text == "answers 429: slow down"
    assert ask.counts["failed"] == 2 and ask.counts["asked"] == 4
    assert collections.Counter(model.asked)["a", 0] == 1, "what was answered before the failure is not asked again"
    broken.clear()
    before = len(model.asked)
    assert texts(ask(user("a", "b", "c"), num_samples=2))[1] == ["b 0", "b 1"]
    assert model.asked[before:] == [("b", 0), ("b", 1)]


def test_a_refusal_of_the_server_is_no_answer_and_is_not_kept(cache):
    _, ask = speaker(lambda p, s: Completion("", 0, "refused"), cache=cache)
    ((one,),) = ask(user("a"))
    assert not is_answer(one) and len(cache) == 0 and ask.counts["refused"] == 1
    assert shortcoming([one], "the teacher") == ("the server of the teacher refused", "")


def test_an_answer_that_was_cut_off_is_one(cache):
    _, ask = speaker(lambda p, s: Completion("so far", 3, "length"), cache=cache)
    ((one,),) = ask(user("a"))
    assert is_answer(one) and len(cache) == 1 and shortcoming([one], "x") is None


def test_many_failures_in_a_row_end_the_run_and_keep_what_was_answered(cache):
    model = Speaker(lambda p, s: UserError("cannot be reached.") if p > "b" else echo(p, s))
    ask = Asker(model, {}, cache, max_failures=3)
    with pytest.raises(ServerGoneError, match=r"3 requests in a row have failed.*cannot be reached.*same command"):
        ask(user(*"abcdefgh"))
    assert len(cache) == 2
    assert {prompt for prompt, _ in model.asked} == set("abcde"), "f, g and h are spared"


def test_failures_between_answers_end_nothing(cache):
    ask = Asker(Speaker(lambda p, s: UserError("x") if p in "bdfh" else echo(p, s)), {}, cache, max_failures=2)
    assert [is_answer(one) for (one,) in ask(user(*"abcdefgh"))] == [True, False] * 4


def test_a_bug_in_a_generator_is_no_failed_answer(cache):
    def broken(prompt, sample):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        speaker(broken, cache=cache)[1](user("a"))
    assert open_answers(cache.folder).claim([]) == []


def test_threads_share_the_work(tmp_path):
    def slow(prompt, sample):
        time.sleep(0.002)
        return echo(prompt, sample)

    model, ask = speaker(slow, cache=open_answers(tmp_path))
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(texts(ask(user(*"abcdef"), num_samples=2)))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[[f"{p} 0", f"{p} 1"] for p in "abcdef"]] * 6
    assert len(model.asked) == len(set(model.asked)) == 12


# A worker that asks 20 prompts 2 times, logs each question in a line of a file, and may be killed before question N.
WORKER = """
import os, signal, sys, time
from phi4r.curation.asking.ask_cache import open_answers
from phi4r.curation.asking.asking import Asker
from phi4r.sampling.generator import Completion
from tests.curation.speaking import Speaker, user

folder, log, killed_at = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT), int(sys.argv[3])

def says(prompt, sample):
    if len(model.asked) == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(log, f"{prompt} {sample}\\n".encode())
    time.sleep(0.003)
    return prompt.upper()

model = Speaker(says)
ask = Asker(model, {"model": "m"}, open_answers(folder))
print("ready", flush=True)
sys.stdin.readline()
for start in range(0, 20, 5):
    answers = ask(user(*(f"p{number}" for number in range(start, start + 5))), num_samples=2)
    assert [[one.text for one in of] for of in answers] == [[f"P{n}"] * 2 for n in range(start, start + 5)]
"""


def worker(repository, tmp_path, killed_at=0) -> subprocess.Popen:
    arguments = [str(tmp_path / "cache"), str(tmp_path / "log"), str(killed_at)]
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *arguments],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start(*processes) -> list[int]:
    """Lets processes go on together, and returns how they ended."""
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.wait(timeout=60) for process in processes]


EVERY_QUESTION = sorted(f"p{number} {sample}" for number in range(20) for sample in range(2))


def test_a_killed_run_goes_on_without_asking_a_question_again(tmp_path, repository):
    assert start(worker(repository, tmp_path, killed_at=17)) == [-9]
    assert len((tmp_path / "log").read_text().splitlines()) == 16
    assert start(worker(repository, tmp_path)) == [0]
    assert sorted((tmp_path / "log").read_text().splitlines()) == EVERY_QUESTION


def test_two_processes_ask_each_question_once(tmp_path, repository):
    assert start(worker(repository, tmp_path), worker(repository, tmp_path)) == [0, 0]
    assert sorted((tmp_path / "log").read_text().splitlines()) == EVERY_QUESTION
