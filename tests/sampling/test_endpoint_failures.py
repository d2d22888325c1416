import socket
import threading
import time

import pytest

from phi4r.errors import UserError
from phi4r.sampling.endpoint import EndpointGenerator, EndpointSettings
from phi4r.sampling.generator import Completion
from tests.sampling.asking import SAMPLING, ask, conversations, generator
from tests.sampling.chat_server import answer, chat_server, echo, failure, one_by_one

# What passes


@pytest.mark.parametrize(
    "trouble",
    [failure(429, "slow down", retry_after_ms="1"), failure(500, "oops", retry_after_ms="1"), failure(503, "?"), None],
    ids=["429", "500", "503", "dropped connection"],
)
def test_trouble_that_passes_is_tried_again(trouble):
    with chat_server(one_by_one(trouble, answer("x"))) as server:
        (completion,) = ask(server, "a", max_retries=1)
    assert completion.text == "x"
    first, second = server.requests
    assert first.body == second.body


def test_an_answer_that_breaks_off_is_asked_for_again():
    status, _, body = answer("lost")
    cut = (status, {"Content-Length": "100000", "Connection": "close"}, body)
    with chat_server(one_by_one(cut, answer("x"))) as server:
        assert [completion.text for completion in ask(server, "a", max_retries=1)] == ["x"]


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        # Without a header the first pause is 0.375 to 0.5 s.
        ({"retry_after": "1"}, 0.95, 5.0),
        ({"retry_after_ms": "10"}, 0.0, 0.35),
    ],
)
def test_the_server_says_when_to_come_again(header, least, most):
    with chat_server(one_by_one(failure(429, "slow down", **header), answer("x"))) as server:
        ask(server, "a", max_retries=1)
    first, second = (request.time_s for request in server.requests)
    assert least < second - first < most


# What does not pass


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (failure(401, "bad\n key"), r"answers 401: bad key \(the key is read from the environment variable MY_KEY\)"),
        (failure(404, "no model m."), r"answers 404: no model m\. Finished answers are kept"),
        (failure(400, "temperature must be 1", code="unsupported_value"), "answers 400: temperature must be 1"),
        ((200, {}, "<html>Welcome</html>"), "no chat completion; is base_url right"),
        ((200, {"Content-Type": "application/json"}, "{cut"), "sent what is no chat completion: Expecting"),
        ((200, {}, {"choices": []}), "no chat completion; is base_url right"),
        ((200, {}, {"choices": [None]}), "no chat completion; is base_url right"),
        ((200, {}, {"choices": [{"finish_reason": "stop"}]}), "no chat completion; is base_url right"),
        (answer({"a": "b"}), "no chat completion; is base_url right"),
        ((200, {}, {"error": {"message": "provider is down"}}), "answers with an error: provider is down"),
        ((200, {}, {"error": "provider is down"}), "answers with an error: provider is down"),
    ],
)
def test_what_fails_for_good_is_one_clear_error_and_is_not_tried_again(reply, message):
    with chat_server(lambda _: reply) as server:
        with pytest.raises(UserError, match=message) as raised:
            ask(server, "a", max_retries=8, api_key_env="MY_KEY")
        assert server.url in str(raised.value) and "\n" not in str(raised.value)
    assert len(server.requests) == 1


def test_trouble_that_does_not_pass_ends_after_the_last_attempt():
    down = failure(500, "oops", retry_after_ms="1")
    with chat_server(lambda _: down) as server, pytest.raises(UserError, match="answers 500: oops"):
        ask(server, "a", max_retries=2)
    assert len(server.requests) == 3


def test_a_server_that_is_not_there_is_said():
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{port.getsockname()[1]}/v1"
    nowhere = EndpointGenerator(EndpointSettings(base_url=url, model="m", max_retries=0), SAMPLING)
    with pytest.raises(UserError, match=f"{url} cannot be reached: "):
        nowhere(conversations("a"), seed=0)


def test_an_answer_that_takes_too_long_is_said():
    end = threading.Event()

    def stuck(request):
        end.wait(timeout=10)
        return echo(request)

    with chat_server(stuck) as server:
        try:
            with pytest.raises(UserError, match=r"gave no answer within 0\.2 s"):
                ask(server, "a", timeout_s=0.2)
        finally:
            end.set()


def test_what_was_finished_before_a_failure_is_told_and_the_rest_is_not_asked():
    told = {}

    def tell_slowly(row, completion):
        time.sleep(0.2)  # the failure comes in meanwhile, and nobody has looked at it
        told[row] = completion

    replies = one_by_one(answer("one"), answer("two"), failure(401, "expired"), *[answer("late")] * 3)
    with chat_server(replies) as server:
        asker = generator(server, concurrency=1)
        with pytest.raises(UserError, match="answers 401: expired"):
            asker(conversations(*"abcdef"), seed=0, on_completion=tell_slowly)
    assert {row: completion.text for row, completion in told.items()} == {0: "one", 1: "two"}
    assert server.prompts == ["a", "b", "c"]


def test_a_listener_that_fails_ends_the_call():
    def full_disk(*_):
        raise OSError("disk full")

    with chat_server(echo) as server, pytest.raises(OSError, match="disk full"):
        generator(server, concurrency=1)(conversations(*"abcdefgh" * 5), seed=0, on_completion=full_disk)
    assert len(server.requests) < 40


# Requests that are refused


@pytest.mark.parametrize("code", ["content_filter", "context_length_exceeded"])
def test_a_refused_request_is_an_empty_answer_and_the_others_go_on(code):
    def refuse_b(request):
        return failure(400, "no", code=code) if request.prompt == "b" else echo(request)

    with chat_server(refuse_b) as server:
        assert ask(server, "a", "b", "c") == [
            Completion("A", 1, "stop"),
            Completion("", 0, "refused"),
            Completion("C", 1, "stop"),
        ]
