import dataclasses
import itertools
import threading
import time

import pytest

from phi4r.errors import UserError
from phi4r.sampling.endpoint import EndpointGenerator, EndpointSettings
from phi4r.sampling.generator import Completion
from tests.sampling.asking import SAMPLING, ask, conversations, generator
from tests.sampling.chat_server import answer, chat_server, echo, failure, one_by_one

# Answers and their order


def test_answers_come_in_the_order_of_the_conversations_however_they_finish():
    def slow_first(request):
        time.sleep(0.2 if request.prompt == "a" else 0.0)
        return echo(request)

    told = []
    with chat_server(slow_first) as server:
        asked = generator(server)(
            conversations("a", "bb", "ccc"), num_samples=2, seed=0, on_completion=lambda *one: told.append(one)
        )
    assert asked == [[Completion(text, len(text), "stop")] * 2 for text in ("A", "BB", "CCC")]
    assert sorted(row for row, _ in told) == list(range(6))
    assert {row for row, _ in told[-2:]} == {0, 1}, "the slow ones are told last"
    assert all(completion == asked[row // 2][row % 2] for row, completion in told)


def test_wanted_samples_of_a_problem_are_asked_and_no_others():
    with chat_server(echo) as server:
        asked = generator(server)(conversations("a", "b", "c"), seed=0, sample_ids=[[4], [], [0, 7]])
    assert [len(answers) for answers in asked] == [1, 0, 2]
    assert sorted(server.prompts) == ["a", "c", "c"]


def test_nothing_asked_is_nothing_sent():
    with chat_server(echo) as server:
        assert generator(server)([], seed=0) == []
    assert server.requests == []


def test_a_seed_belongs_to_a_sample_of_a_problem_whatever_else_is_asked():
    with chat_server(echo) as server:
        ask_all = generator(server)
        ask_all(conversations("a", "b"), seed=3, prompt_ids=[5, 6], sample_ids=[[0, 1], [0, 1]])
        ask_all(conversations("b"), seed=3, prompt_ids=[6], sample_ids=[[1]])
        ask_all(conversations("b"), seed=4, prompt_ids=[6], sample_ids=[[1]])
    seeds = [request.body["seed"] for request in server.requests]
    assert len(set(seeds[:4])) == 4 and all(0 <= seed < 2**31 for seed in seeds)
    assert seeds[4] in {r.body["seed"] for r in server.requests[:4] if r.prompt == "b"}
    assert seeds[5] not in seeds[:5]


# What is sent


def test_a_request_has_every_setting_of_decoding_and_nothing_else():
    sampling = dataclasses.replace(SAMPLING, top_k=7, min_p=0.125)
    conversation = [{"role": "system", "content": "Think."}, {"role": "user", "content": "a"}]
    with chat_server(echo) as server:
        generator(server, sampling=sampling, stop=("###",), extra={"reasoning_effort": "high"})([conversation], seed=0)
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert {name: value for name, value in request.body.items() if name != "seed"} == {
        "model": "m",
        "messages": conversation,
        "max_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.75,
        "top_k": 7,
        "min_p": 0.125,
        "stop": ["###"],
        "reasoning_effort": "high",
    }


def test_filters_that_are_off_and_fields_that_the_server_refuses_are_left_out():
    sampling = dataclasses.replace(SAMPLING, top_k=7)
    with chat_server(echo) as server:
        ask(server, "a")
        omit = ("temperature", "top_p", "top_k", "seed")
        ask(server, "a", sampling=sampling, omit=omit, limit_field="max_completion_tokens")
    plain, bare = (set(request.body) for request in server.requests)
    assert plain == {"model", "messages", "max_tokens", "temperature", "top_p", "seed"}
    assert bare == {"model", "messages", "max_completion_tokens"}


def test_the_key_is_read_from_the_named_variable(monkeypatch):
    monkeypatch.setenv("PHI4R_KEY_OF_A_TEST", "abc")
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    with chat_server(echo) as server:
        ask(server, "a", api_key_env="PHI4R_KEY_OF_A_TEST")
        ask(server, "a", api_key_env="PHI4R_NO_SUCH_KEY")
    named, missing = (request.headers["authorization"] for request in server.requests)
    assert named == "Bearer abc"
    assert missing not in ("Bearer abc", "Bearer another")


# How hard the server is asked


def test_as_many_requests_run_side_by_side_as_are_allowed_and_no_more():
    gate = threading.Barrier(3)

    def together(request):
        gate.wait(timeout=10)  # opens when three are here at a time
        return echo(request)

    with chat_server(together) as server:
        assert len(ask(server, *"abcdef", concurrency=3)) == 6
    assert server.most_at_once == 3


def test_requests_start_at_the_pace_that_is_allowed():
    # 300 a minute: 0.2 s apart, 0.6 s from the first to the fourth.
    with chat_server(echo) as server:
        ask(server, *"abcd", requests_per_minute=300)
    times = sorted(request.time_s for request in server.requests)
    assert times[-1] - times[0] > 0.45


def test_a_repeated_attempt_keeps_to_the_pace_too():
    with chat_server(one_by_one(failure(429, "slow down", retry_after_ms="1"), answer("x"))) as server:
        ask(server, "a", requests_per_minute=120, max_retries=1)
    first, second = (request.time_s for request in server.requests)
    assert second - first > 0.4


# What an answer becomes


THOUGHTS = [
    (answer("42", reasoning_content="hm"), "<think>hm</think>42", "stop"),
    (answer("42", reasoning="hm"), "<think>hm</think>42", "stop"),
    (answer("", reasoning_content="hm"), "<think>hm</think>", "stop"),
    (answer(None, reasoning_content="hm", finish_reason="length"), "<think>hm", "length"),  # cut off in the thought
    (answer("4", reasoning_content="hm", finish_reason="length"), "<think>hm</think>4", "length"),
    (answer("<think>hm</think>42", reasoning_content="hm"), "<think>hm</think>42", "stop"),
    (answer("42", reasoning_content=""), "42", "stop"),
    (answer("42", reasoning_content=None), "42", "stop"),
    (answer(None), "", "stop"),
    (answer([{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]), "42", "stop"),
    (answer("4", finish_reason="content_filter"), "4", "refused"),
]


@pytest.mark.parametrize(("reply", "text", "reason"), THOUGHTS)
def test_a_thought_that_is_held_apart_is_put_back_between_its_tags(reply, text, reason):
    with chat_server(lambda _: reply) as server:
        assert ask(server, "a") == [Completion(text, 5, reason)]


@pytest.mark.parametrize("usage", [None, {"completion_tokens": None}])
def test_a_server_that_does_not_count_tokens_is_read_all_the_same(usage):
    status, headers, body = answer("x")
    with chat_server(lambda _: (status, headers, {**body, "usage": usage})) as server:
        assert ask(server, "a") == [Completion("x", 0, "stop")]


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": "localhost:8000"}, "must be a URL"),
        ({"model": ""}, "name of a model"),
        *itertools.product(
            ({"concurrency": 0}, {"requests_per_minute": -1}, {"max_retries": -1}, {"timeout_s": 0.0}),
            ("endpoint needs concurrency >= 1",),
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        EndpointSettings(**{"base_url": "http://localhost:8000/v1", "model": "m", **changes})


def test_a_limit_of_the_thought_is_refused():
    settings = EndpointSettings("http://localhost:8000/v1", "m")
    with pytest.raises(UserError, match="a server cannot end a thought by force"):
        EndpointGenerator(settings, dataclasses.replace(SAMPLING, max_thought=10))
