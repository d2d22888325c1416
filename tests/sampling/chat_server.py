"""A chat completions server for tests: real HTTP on this machine, and every reply is the test's."""

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclasses.dataclass(frozen=True)
class Request:
    """What came in: the decoded body, the headers in small letters, the path, and when."""

    body: Mapping[str, Any]
    headers: Mapping[str, str]
    path: str
    time_s: float

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"]


# Status, further headers and body; a dict is sent as JSON. None for the reply drops the connection without a word.
Reply = tuple[int, Mapping[str, str], Any]
Script = Callable[[Request], Reply | None]


@dataclasses.dataclass
class ChatServer:
    """A running server.

    Attributes:
      url: what a client takes as its base_url.
      requests: all that came in, in order of arrival.
      most_at_once: most requests that were being answered at one time.
    """

    url: str
    requests: list[Request] = dataclasses.field(default_factory=list)
    most_at_once: int = 0

    @property
    def prompts(self) -> list[str]:
        return [request.prompt for request in self.requests]


@contextmanager
def chat_server(script: Script) -> Iterator[ChatServer]:
    """Answers each request with what `script` makes of it, each in a thread of its own."""
    lock, open_requests = threading.Lock(), 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            nonlocal open_requests
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(body, headers, self.path, time.monotonic())
            with lock:
                server.requests.append(request)
                open_requests += 1
                server.most_at_once = max(server.most_at_once, open_requests)
            try:
                reply = script(request)
            finally:
                with lock:
                    open_requests -= 1
            self._send(reply)

        def _send(self, reply: Reply | None):
            if reply is None:
                self.close_connection = True
                return
            status, headers, content = reply
            is_text = isinstance(content, str)
            data = (content if is_text else json.dumps(content)).encode()
            self.send_response(status)
            default = {"Content-Type": "text/html" if is_text else "application/json"}
            for name, value in {**default, "Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            """Says nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request, client_address):
            """A client that went away is no news."""

    with Quiet(("127.0.0.1", 0), Handler) as http:
        server = ChatServer(f"http://127.0.0.1:{http.server_address[1]}/v1")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def answer(text: str | None, *, num_tokens: int = 5, finish_reason: str = "stop", **message: Any) -> Reply:
    """Returns a reply with one choice; `message` are further fields of it, as reasoning_content."""
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": text, **message},
    }
    usage = {"prompt_tokens": 3, "completion_tokens": num_tokens, "total_tokens": 3 + num_tokens}
    whole = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return 200, {}, whole


def failure(status: int, message: str, *, code: str | None = None, **headers: str) -> Reply:
    """Returns an error as the protocol has it; `headers` with _ for -."""
    error = {"message": message, "type": "error", "param": None, "code": code}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, {"error": error}


def echo(request: Request) -> Reply:
    """Answers in capital letters, with a token for each letter."""
    return answer(request.prompt.upper(), num_tokens=len(request.prompt))


def one_by_one(*replies: Reply | None) -> Script:
    """Returns a script that gives these replies in turn, whatever it is asked."""
    rest, lock = iter(replies), threading.Lock()

    def script(_: Request) -> Reply | None:
        with lock:
            return next(rest)

    return script
