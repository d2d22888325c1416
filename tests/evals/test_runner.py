import errno
import json
import random

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.record_log import RecordLog
from phi4r.evals.responses import read_responses, summarise
from phi4r.evals.runner import ITEMS_FILE, PROTOCOL_FILE, RESPONSES_FILE, evaluate
from phi4r.evals.tasks import Task
from phi4r.sampling import SamplingParams
from phi4r.sampling.generator import Completion
from phi4r.verifiers import IntegerVerifier

DECODING = DecodingSettings(max_tokens=100)


class Recorded:
    """A generator that answers every problem rightly with probability 1/2, and remembers what it was asked.

    Like ours, it finishes answers out of order, and tells of each at once.
    """

    def __init__(self, *, die_after=None):
        self.calls = []
        self.num_answered = 0
        self._die_after = die_after

    def __call__(self, conversations, *, seed, prompt_ids, sample_ids, on_completion):
        prompts = [conversation[-1]["content"] for conversation in conversations]
        self.calls.append((prompts, sample_ids))
        rows = [(prompt, sample) for prompt, samples in enumerate(sample_ids) for sample in samples]
        for row in reversed(range(len(rows))):
            if self.num_answered == self._die_after:
                raise KeyboardInterrupt
            prompt, sample = rows[row]
            on_completion(row, self._answer(prompts[prompt], seed, prompt_ids[prompt], sample))
            self.num_answered += 1

    @staticmethod
    def _answer(prompt, seed, prompt_id, sample):
        answer = int(prompt) + random.Random(f"{seed}/{prompt_id}/{sample}").randrange(2)
        return Completion(f"<think> hm </think>\\boxed{{{answer}}}", 5 + answer, "stop")

    @property
    def num_asked(self):
        return sum(len(samples) for _, sample_ids in self.calls for samples in sample_ids)


def _task(num=7, **changes):
    problems = tuple(Problem(f"p{i}", str(i), str(i)) for i in range(num))
    return Task(**{"name": "count", "problems": problems, "verifier": IntegerVerifier(thinking=True), **changes})


def _cells(path):
    return [(response.id, response.run) for response in read_responses(path)]


@pytest.fixture
def run(tmp_path):
    def run(generator, task=None, **changes):
        arguments = {"decoding": DECODING, "num_runs": 3, "batch_size": 4, **changes}
        return evaluate(generator, task or _task(), workdir=tmp_path / "eval", **arguments)

    return run


def test_every_problem_is_asked_once_a_run_and_all_figures_come_from_the_file(run, tmp_path):
    generator = Recorded()
    result = run(generator)
    path = tmp_path / "eval" / RESPONSES_FILE
    assert sorted(_cells(path)) == sorted((f"p{i}", run) for i in range(7) for run in range(3))
    assert generator.num_asked == 21
    assert [sum(map(len, sample_ids)) for _, sample_ids in generator.calls] == [4, 4, 4, 4, 4, 1]
    assert result.scores == summarise(path)
    assert [(r.id, r.run) for r in result.responses] == [(f"p{i}", run) for i in range(7) for run in range(3)]
    assert sorted(map(str, result.responses)) == sorted(map(str, read_responses(path)))


def test_verdicts_and_lengths_are_those_of_the_answers(run):
    def generator(conversations, *, on_completion, **asked):
        texts = ["</think>\\boxed{0}", "</think>\\boxed{9}", "<think> cut \\boxed{2}", "</think> no box"]
        reasons = ["stop", "stop", "length", "stop"]
        for i in range(len(conversations)):
            on_completion(i, Completion(texts[i], 10 * i, reasons[i]))

    result = run(generator, _task(4), num_runs=1)
    assert [r.correct for r in result.responses] == [True, False, False, False]
    assert [r.answer for r in result.responses] == ["0", "9", None, None]
    assert [r.status for r in result.responses] == ["ok", "ok", "no_answer", "no_answer"]
    scores = result.scores
    assert (scores.accuracy, scores.truncated, scores.mean_tokens_right, scores.mean_tokens_wrong) == (
        0.25,
        0.25,
        0,
        20,
    )


def test_runs_are_asked_together_where_they_fit_into_a_batch(run):
    generator = Recorded()
    run(generator, batch_size=15)
    assert [sample_ids for _, sample_ids in generator.calls] == [[[0, 1]] * 7 + [[2]], [[2]] * 6]


def test_a_response_is_on_disk_as_soon_as_it_is_judged(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Recorded(die_after=5), batch_size=21)  # in the middle of the one call
    assert len(_cells(tmp_path / "eval" / RESPONSES_FILE)) == 5


def test_a_full_disk_ends_the_generation_and_loses_nothing(run, tmp_path, monkeypatch):
    append = RecordLog.append

    def limited(log, responses):
        if len(log.records) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(log, responses)

    monkeypatch.setattr(RecordLog, "append", limited)
    generator = Recorded()
    with pytest.raises(OSError, match="No space left"):
        run(generator)
    assert len(generator.calls) <= 2
    monkeypatch.undo()
    again = Recorded()
    run(again)
    assert again.num_asked == 21 - 3


def test_items_carry_the_groups_that_results_are_broken_down_by(run, tmp_path):
    problems = tuple(Problem(f"p{i}", str(i), str(i), {"year": 2000 + i, "note": "?"}) for i in range(2))
    run(Recorded(), _task(problems=problems, groups=("year",)))
    rows = [json.loads(line) for line in (tmp_path / "eval" / ITEMS_FILE).read_text().splitlines()]
    assert rows == [{"id": "p0", "groups": {"year": 2000}}, {"id": "p1", "groups": {"year": 2001}}]


def test_items_carry_all_that_the_figures_of_a_benchmark_are_computed_from(run, tmp_path):
    contest = {"contest": "1", "points": 500.0, "standings": [[1500.0, 400.0, 0.0]]}
    run(Recorded(), _task(problems=(Problem("1-A", "1", "1", contest),), groups=("contest",), benchmark="codeforces"))
    (row,) = [json.loads(line) for line in (tmp_path / "eval" / ITEMS_FILE).read_text().splitlines()]
    assert row == {"id": "1-A", "groups": {"contest": "1"}, "meta": contest}


def test_the_seed_decides_the_answers(tmp_path):
    def texts(seed, folder):
        result = evaluate(Recorded(), _task(), workdir=tmp_path / folder, decoding=DECODING, num_runs=3, seed=seed)
        return [response.text for response in result.responses]

    assert texts(1, "a") == texts(1, "b") != texts(2, "c")


@pytest.mark.parametrize("die_after", [0, 1, 9, 20])
def test_a_run_that_was_killed_goes_on_and_gives_the_answers_of_one_that_was_not(run, die_after, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(Recorded(die_after=die_after))
    second = Recorded()
    result = run(second)
    assert second.num_asked == 21 - die_after
    assert len(set(_cells(tmp_path / "eval" / RESPONSES_FILE))) == 21
    whole = evaluate(Recorded(), _task(), workdir=tmp_path / "whole", decoding=DECODING, num_runs=3, batch_size=21)
    assert result.responses == whole.responses


@pytest.mark.parametrize("cut", [1, 30, 200, 301])
def test_a_run_that_was_killed_in_the_middle_of_a_line_asks_for_that_line_again(run, cut, tmp_path):
    whole = run(Recorded())
    path = tmp_path / "eval" / RESPONSES_FILE
    path.write_bytes(path.read_bytes()[:-cut])
    stored = read_responses(path)
    generator = Recorded()
    result = run(generator)
    assert 0 < generator.num_asked == 21 - len(stored)
    assert read_responses(path)[: len(stored)] == stored
    assert result.responses == whole.responses
    assert sorted(_cells(path)) == sorted((f"p{i}", run) for i in range(7) for run in range(3))


def test_a_finished_evaluation_asks_nothing_and_gives_the_same_scores(run):
    first = run(Recorded())
    generator = Recorded()
    again = run(generator)
    assert generator.calls == []
    assert again == first


def test_more_runs_extend_an_evaluation_and_fewer_look_at_its_beginning(run):
    first = run(Recorded(), num_runs=2)
    generator = Recorded()
    longer = run(generator, num_runs=4)
    assert generator.num_asked == 14
    assert tuple(response for response in longer.responses if response.run < 2) == first.responses
    assert longer.scores.num_runs == 4
    assert run(Recorded(), num_runs=2).scores == first.scores


def test_the_tasks_own_number_of_runs_is_the_default(run):
    assert run(Recorded(), _task(num_runs=2), num_runs=None).scores.num_runs == 2


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        (
            {"decoding": DecodingSettings(temperature=0.0, max_tokens=100)},
            "decoding.temperature was 0.8 and is now 0.0",
        ),
        ({"seed": 5}, "seed was 0 and is now 5"),
        ({"provenance": {"weights": "b"}}, "provenance.weights was 'a' and is now 'b'"),
        ({"task": _task(system_message="Think.")}, "system_message was None"),
        ({"task": _task(verifier=IntegerVerifier())}, "verifier.fields.thinking was True and is now False"),
        ({"task": _task(8)}, "num_items was 7 and is now 8"),
        ({"deadline_s": 9.0}, "deadline_s was 5.0"),
    ],
)
def test_another_protocol_in_the_same_folder_is_refused(run, changes, name, tmp_path):
    run(Recorded(), provenance={"weights": "a"})
    stored = (tmp_path / "eval" / RESPONSES_FILE).read_bytes()
    generator = Recorded()
    with pytest.raises(UserError, match=f"under another protocol: {name}"):
        run(generator, **{"provenance": {"weights": "a"}, **changes})
    assert generator.calls == [] and (tmp_path / "eval" / RESPONSES_FILE).read_bytes() == stored


def test_the_protocol_says_how_the_answers_were_made(run, tmp_path):
    result = run(Recorded(), provenance={"template": "abc"})
    protocol = json.loads((tmp_path / "eval" / PROTOCOL_FILE).read_text())
    assert protocol == result.protocol
    assert protocol["decoding"] == {
        "temperature": 0.8,
        "top_p": 0.95,
        "top_k": 50,
        "max_tokens": 100,
        "min_p": 0.0,
        "stop": [],
        "max_thought": None,
    }
    assert protocol["verifier"] == {
        "type": "phi4r.verifiers.exact:IntegerVerifier",
        "fields": {"thinking": True, "max_digits": 18},
    }
    assert protocol["provenance"] == {"template": "abc"} and protocol["problems"] == _task().digest()
    assert {"phi4r", "jax"} < set(protocol["versions"])


def test_responses_without_a_protocol_and_a_damaged_one_are_refused(run, tmp_path):
    run(Recorded())
    protocol = tmp_path / "eval" / PROTOCOL_FILE
    protocol.write_text('{"task": ')
    with pytest.raises(UserError, match=r"protocol\.json is damaged"):
        run(Recorded())
    protocol.unlink()
    with pytest.raises(UserError, match=r"has responses but no protocol\.json"):
        run(Recorded())


@pytest.mark.parametrize("changes", [{"num_runs": 0}, {"batch_size": 0}])
def test_counts_below_one_are_refused(run, changes):
    with pytest.raises(UserError, match="num_runs >= 1 and batch_size >= 1"):
        run(Recorded(), **changes)


@pytest.mark.parametrize("changes", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}])
def test_impossible_decoding_is_refused(changes):
    with pytest.raises(UserError, match="decoding needs temperature >= 0"):
        DecodingSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_p": 1.0}, "0 <= min_p < 1"),
        ({"min_p": -0.1}, "0 <= min_p < 1"),
        ({"max_thought": -1}, "max_thought >= 0"),
        ({"stop": ("a", "")}, "empty stop string"),
    ],
)
def test_impossible_limits_of_a_response_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        DecodingSettings(**changes)


def test_the_sampler_gets_every_setting_of_decoding():
    assert DecodingSettings(0.5, 0.9, 7, 64, 0.1, ("a",), 16).params() == SamplingParams(0.5, 7, 0.9, 0.1, 64, 16)
    assert DecodingSettings(max_tokens=64).params() == SamplingParams(0.8, 50, 0.95, 0.0, 64)
