import shutil
import signal
import subprocess
import sys
import threading

import pytest

from phi4r.curation.asking.ask_cache import ANSWERS_FILE, AnswerCache, CacheError, Key, open_answers
from phi4r.sampling.generator import Completion

ONE, TWO = Key(b"one", 0), Key(b"one", 1)


def process(code: str, repository) -> subprocess.Popen:
    code = "import os, signal, sys\nfrom phi4r.curation.asking.ask_cache import *\n" + code
    return subprocess.Popen([sys.executable, "-c", code], cwd=repository, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("text", ["", "x = 1\n\n\u2028\u221a2 \U0001f600", "half a pair \ud83d", "a\x00b"])
def test_an_answer_is_found_again_as_it_was(tmp_path, text):
    AnswerCache(tmp_path).put({ONE: Completion(text, 7, "length")})
    assert AnswerCache(tmp_path).get([ONE, TWO]) == {ONE: Completion(text, 7, "length")}


def test_only_the_samples_that_were_asked_for_are_given(tmp_path):
    cache = AnswerCache(tmp_path)
    cache.put(
        {Key(asked, sample): Completion(f"{asked}{sample}", 1, "stop") for asked in (b"a", b"b") for sample in (0, 1)}
    )
    assert {key: one.text for key, one in cache.get([Key(b"a", 1), Key(b"c", 0)]).items()} == {Key(b"a", 1): "b'a'1"}


def test_the_first_answer_to_a_question_stays(tmp_path):
    cache = AnswerCache(tmp_path)
    cache.put({ONE: Completion("first", 1, "stop")})
    cache.put({ONE: Completion("second", 1, "stop"), TWO: Completion("other", 1, "stop")})
    assert [cache.get([ONE, TWO])[key].text for key in (ONE, TWO)] == ["first", "other"]
    assert len(cache) == 2


def test_a_write_that_was_torn_is_no_record_and_spoils_none(tmp_path):
    cache = AnswerCache(tmp_path / "cache")
    cache.put({ONE: Completion("whole", 1, "stop")})
    cache.put({TWO: Completion("torn " * 50, 1, "stop")})
    shutil.copytree(tmp_path / "cache", tmp_path / "crashed")  # as the disk is while the process still runs
    log = tmp_path / "crashed" / f"{ANSWERS_FILE}-wal"
    log.write_bytes(log.read_bytes()[:-100])
    (tmp_path / "crashed" / f"{ANSWERS_FILE}-shm").unlink()
    assert AnswerCache(tmp_path / "crashed").get([ONE, TWO]) == {ONE: Completion("whole", 1, "stop")}


def test_a_killed_process_loses_nothing_that_was_written_and_its_claims_are_free(tmp_path, repository):
    code = f"""
cache = open_answers({str(tmp_path)!r})
assert cache.claim([Key(b"claimed", 0)])
for sample in range(20):
    cache.put({{Key(b"written", sample): Completion("x", 1, "stop")}})
print("ready", flush=True)
signal.pause()
"""
    killed = process(code, repository)
    assert killed.stdout.readline() == "ready\n"
    cache = open_answers(tmp_path)
    assert cache.claim([Key(b"claimed", 0), Key(b"free", 0)]) == [Key(b"free", 0)]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert cache.claim([Key(b"claimed", 0)]) == [Key(b"claimed", 0)]
    assert len(cache.get([Key(b"written", sample) for sample in range(30)])) == 20


def test_of_many_threads_one_may_ask(tmp_path):
    cache, claims = open_answers(tmp_path), []
    threads = [threading.Thread(target=lambda: claims.append(open_answers(tmp_path).claim([ONE]))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, claims)) == [0] * 7 + [1]
    cache.release([ONE])
    assert cache.claim([ONE]) == [ONE]


def test_answers_take_less_room_than_their_text(tmp_path):
    text = "".join(f"Step {number}: we add {number} to the sum and go on. " for number in range(100))
    cache = AnswerCache(tmp_path)
    cache.put({Key(b"%d" % number, 0): Completion(text, 1, "stop") for number in range(100)})
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100 * len(text) / 3


def test_a_damaged_cache_is_named(tmp_path):
    (tmp_path / ANSWERS_FILE).write_bytes(b"this is no database, but long enough to look like one\n" * 100)
    with pytest.raises(CacheError, match=r"answers\.sqlite is damaged .*; delete it"):
        AnswerCache(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"cannot write .*file/cache.*choose another folder"):
        AnswerCache(tmp_path / "file" / "cache")
