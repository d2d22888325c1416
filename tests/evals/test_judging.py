import dataclasses
import json
import re

import pytest

from phi4r.data.records import Problem
from phi4r.errors import UserError
from phi4r.evals.decoding import DecodingSettings
from phi4r.evals.judging import JudgeSettings, extract_answers, judge_responses
from phi4r.evals.responses import Response
from phi4r.evals.tasks import Task
from phi4r.sampling.endpoint import EndpointSettings
from phi4r.sampling.generator import Completion
from phi4r.verifiers.boolean import BooleanVerifier
from phi4r.verifiers.math import MathVerifier
from phi4r.verifiers.unjudged import UnjudgedVerifier

PROTOCOL = {"model": "judge", "decoding": {"temperature": 0.0, "stop": ()}}
WIN = {"first": "B>A", "second": "A>B"}  # verdicts with which ours wins both games


class Scripted:
    """A generator whose replies are a function of what it is asked; it remembers all that."""

    def __init__(self, reply, *, die_after=None):
        self.asked = []
        self._reply, self._die_after = reply, die_after

    def __call__(self, conversations, *, seed, on_completion):
        for row in reversed(range(len(conversations))):  # in another order than they were asked in
            if len(self.asked) == self._die_after:
                raise KeyboardInterrupt
            (message,) = conversations[row]
            self.asked.append(message["content"])
            on_completion(row, Completion(self._reply(message["content"]), 3, "stop"))


def response(item, *, run=0, text=None, reason="stop", correct=False, status="unjudged"):
    text = f"<think>hm</think>ours to {item}" if text is None else text
    return Response(item, run, text, 9, reason, correct, float(correct), None, status)


def referee(prompt):
    """Ours is better, clearly so for "p0"."""
    ours_is_a = "## Answer of assistant A\nours" in prompt
    verdict = WIN["second" if ours_is_a else "first"]
    return f"Verdict: [[{verdict.replace('>', '>>') if 'ours to p0' in prompt else verdict}]]"


ARENA = Task("arena", tuple(Problem(f"p{i}", f"Ask {i}", f"theirs {i}") for i in range(3)), UnjudgedVerifier(True))
ARENA = dataclasses.replace(ARENA, judge="pairwise")
RESPONSES = [response("p0"), response("p1"), response("p2", text="<think>hm", reason="length", status="no_answer")]


@pytest.fixture
def judge(tmp_path):
    def judge(generator, responses=RESPONSES, task=ARENA, protocol=PROTOCOL):
        return judge_responses(generator, task, responses, workdir=tmp_path, protocol=protocol)

    return judge


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# Judgements


def test_a_judge_is_asked_both_games_of_every_response_with_a_solution(judge, tmp_path):
    generator = Scripted(referee)
    figures = judge(generator)
    assert len(generator.asked) == 4 and not any("Ask 2" in prompt for prompt in generator.asked)
    # p0 6 of 6, p1 2 of 2, and p2, cut off, 0 of 2.
    assert (figures["win_rate"], figures["judged"], figures["unreadable"]) == (8 / 10, 4.0, 0.0)
    written = lines(tmp_path / "judgements.jsonl")
    assert sorted((row["id"], row["run"], row["game"], row["verdict"]) for row in written) == [
        ("p0", 0, 0, "B>>A"),
        ("p0", 0, 1, "A>>B"),
        ("p1", 0, 0, "B>A"),
        ("p1", 0, 1, "A>B"),
    ]


def test_every_run_is_judged(judge):
    generator = Scripted(referee)
    figures = judge(generator, [response("p0"), response("p0", run=1), response("p1")])
    assert (len(generator.asked), figures["win_rate"], figures["judged"]) == (6, 1.0, 6.0)


def test_a_thought_that_was_not_closed_is_not_shown_and_loses(judge):
    generator = Scripted(referee)
    open_thought = response("p1", text="ours to p1, I think", status="no_answer")  # it stopped by itself
    figures = judge(generator, [response("p0"), open_thought])
    assert len(generator.asked) == 2
    assert figures["win_rate"] == 6 / 8
    plain = dataclasses.replace(ARENA, verifier=UnjudgedVerifier(thinking=False))
    judge(generator, [response("p0"), open_thought], task=plain)
    assert len(generator.asked) == 4, "of a model without thoughts it is the answer"


@pytest.mark.parametrize("die_after", [0, 1, 3])
def test_a_judge_that_was_interrupted_is_asked_only_what_is_missing(judge, die_after, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        judge(Scripted(referee, die_after=die_after))
    assert len(lines(tmp_path / "judgements.jsonl")) == die_after
    again = Scripted(referee)
    figures = judge(again)
    assert len(again.asked) == 4 - die_after
    assert (figures["win_rate"], figures["judged"]) == (8 / 10, 4.0)
    silent = Scripted(referee)
    assert judge(silent) == figures and silent.asked == []


@pytest.mark.parametrize("cut", [1, 2, 30])
def test_a_judgement_that_was_cut_in_the_middle_of_its_line_is_asked_for_again(judge, cut, tmp_path):
    whole = judge(Scripted(referee))
    path = tmp_path / "judgements.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    again = Scripted(referee)
    assert judge(again) == whole
    assert len(again.asked) == 1 and len(lines(path)) == 4


def test_an_answer_that_took_the_place_of_another_is_judged_anew(judge, tmp_path):
    judge(Scripted(referee))
    again = Scripted(lambda _: "Verdict: [[A=B]]")
    figures = judge(again, [RESPONSES[0], response("p1", text="</think>ours, another one"), RESPONSES[2]])
    assert len(again.asked) == 2 and all("another one" in prompt for prompt in again.asked)
    # p0 6 of 6, p1 twice half, p2 0 of 2; what was said of the lost answer counts no more.
    assert (figures["win_rate"], figures["judged"]) == (7 / 10, 4.0)
    assert len(lines(tmp_path / "judgements.jsonl")) == 6


def test_unreadable_replies_are_kept_and_not_asked_for_again(judge):
    figures = judge(Scripted(lambda prompt: "I would rather not." if "ours to p1" in prompt else referee(prompt)))
    assert (figures["win_rate"], figures["judged"], figures["unreadable"]) == (6 / 8, 4.0, 2.0)
    again = Scripted(referee)
    assert judge(again) == figures and again.asked == []


def test_another_judge_in_the_same_folder_is_refused(judge, tmp_path):
    judge(Scripted(referee))
    other = Scripted(referee)
    with pytest.raises(UserError, match="judged by another model: model was 'judge' and is now 'gpt'"):
        judge(other, protocol={**PROTOCOL, "model": "gpt"})
    assert other.asked == []
    (tmp_path / "judge.json").write_text("{")
    with pytest.raises(UserError, match=r"judge\.json is damaged"):
        judge(other)
    (tmp_path / "judge.json").unlink()
    with pytest.raises(UserError, match=r"judgements\.jsonl has lines, but there is no judge\.json"):
        judge(other)


def test_equivalence_is_asked_only_of_what_rules_found_wrong(judge):
    task = Task("math", ARENA.problems, MathVerifier(thinking=True), judge="equivalence")
    responses = [response("p0", correct=True, status="ok"), response("p1", status="ok"), response("p2", status="ok")]
    generator = Scripted(lambda prompt: f"Equivalent: {'yes' if 'theirs 1' in prompt else 'no'}")
    figures = judge(generator, responses, task)
    assert len(generator.asked) == 2
    assert (figures["accuracy"], figures["accuracy_by_rules"], figures["found_right"]) == (2 / 3, 1 / 3, 1.0)


# Extraction


MATH = Task("math", tuple(Problem(f"p{i}", f"Ask {i}", str(i)) for i in range(6)), MathVerifier(thinking=True))
STORED = [
    response("p0", text="<think>hm</think>\\boxed{0}", correct=True, status="ok"),
    response("p1", text="<think>9</think>It is one.", status="no_answer"),
    response("p2", text="<think>hm</think>It is three.", status="no_answer"),
    response("p3", text="<think>hm</think>Who knows?", status="no_answer"),
    response("p4", text="<think>hm", reason="length", status="no_answer"),
    response("p5", text="It is five, I think", status="no_answer"),  # in a thought
]
WRITTEN = {"one": "1", "three": "3", "knows": "NONE"}


def write_out(prompt):
    (word,) = (word for word in WRITTEN if re.search(rf"\b{word}\b", prompt))
    return WRITTEN[word]


def test_answers_that_a_model_writes_out_are_judged_by_the_rules(tmp_path):
    generator = Scripted(write_out)
    figures = extract_answers(generator, MATH, STORED, workdir=tmp_path, protocol=PROTOCOL)
    assert len(generator.asked) == 3
    # One right by rules and p1; p2 has an answer that is wrong, p3 none; p4 and p5 have no solution.
    assert figures == {"accuracy": 2 / 6, "accuracy_by_rules": 1 / 6, "extracted": 2.0, "found_right": 1.0}
    written = {row["id"]: (row["text"], row["correct"], row["status"]) for row in lines(tmp_path / "extractions.jsonl")}
    assert written == {"p1": ("1", True, "ok"), "p2": ("3", False, "ok"), "p3": ("NONE", False, "no_answer")}


def test_an_extraction_that_was_interrupted_goes_on_and_keeps_to_its_model(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract_answers(Scripted(write_out, die_after=2), MATH, STORED, workdir=tmp_path, protocol=PROTOCOL)
    again = Scripted(write_out)
    figures = extract_answers(again, MATH, STORED, workdir=tmp_path, protocol=PROTOCOL)
    assert len(again.asked) == 1 and figures["accuracy"] == 2 / 6
    with pytest.raises(UserError, match="judged by another model: model was 'judge'"):
        extract_answers(again, MATH, STORED, workdir=tmp_path, protocol={"model": "other"})


@pytest.mark.parametrize(
    ("verifier", "reference", "reply", "correct"),
    [
        (MathVerifier(thinking=True), "1/2", "\\frac12", True),
        (MathVerifier(thinking=True), "1/2", "$0.5$", True),
        (MathVerifier(thinking=True), "1/2", "\\boxed{\\frac{1}{2}}", True),
        (MathVerifier(thinking=True), "(-\\infty,3)", "x < 3", True),
        (MathVerifier(thinking=True), "1/2", "none.", False),
        (MathVerifier(thinking=True), "1/2", "", False),
        (BooleanVerifier(thinking=True), "true", "True", True),
        (BooleanVerifier(thinking=True), "false", "Answer: False", True),
    ],
)
def test_a_reply_is_put_into_a_form_that_the_rules_read(verifier, reference, reply, correct, tmp_path):
    task = Task("one", (Problem("p1", "Ask", reference),), verifier)
    extracted = extract_answers(Scripted(lambda _: reply), task, [STORED[1]], workdir=tmp_path, protocol=PROTOCOL)
    assert extracted["found_right"] == correct


# Settings


def test_the_protocol_names_what_replies_depend_on_and_a_judge_is_greedy():
    settings = JudgeSettings(EndpointSettings("http://h/v1", "m", extra={"effort": "low"}, omit=("seed",)))
    assert settings.decoding == DecodingSettings(temperature=0.0, top_p=1.0, top_k=0, max_tokens=4096)
    protocol = settings.protocol()
    assert protocol.pop("decoding") == dataclasses.asdict(settings.decoding)
    assert protocol == {"base_url": "http://h/v1", "model": "m", "extra": {"effort": "low"}, "omit": ("seed",)}
