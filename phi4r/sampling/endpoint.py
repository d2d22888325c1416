"""A Generator on any server that speaks the chat completions protocol of OpenAI.

Requests run side by side, within a limit of requests a minute; what fails for a while (a lost connection, 408, 409,
429, 5xx) is tried again after growing pauses, or when the server says so. What fails for good ends the call; whatever
was finished before has been told through `on_completion`.
"""

import dataclasses
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from phi4r.errors import UserError
from phi4r.sampling.generator import Completion, OnCompletion
from phi4r.sampling.logits import SamplingParams
from phi4r.text.template import Message

_REFUSALS = ("content_filter", "context_length_exceeded")  # codes that concern one request, not the set-up


@dataclasses.dataclass(frozen=True)
class EndpointSettings:
    """Which server answers, and how hard it may be asked.

    Attributes:
      base_url: of the protocol, as "http://localhost:8000/v1".
      model: name under which the server knows the model.
      api_key_env: environment variable that holds the key; a server without keys needs none.
      concurrency: requests that run side by side.
      requests_per_minute: most attempts started in a minute, repeated ones included; 0 for no limit.
      max_retries: attempts after the first one, for what may pass.
      timeout_s: seconds that one attempt may take; long thoughts take long.
      limit_field: name of the token limit in a request; some servers take only the newer one.
      extra: further fields of every request, as {"reasoning_effort": "high"}.
      omit: fields that the server refuses, as ("temperature", "top_p", "top_k", "seed").
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = 16
    requests_per_minute: int = 0
    max_retries: int = 8
    timeout_s: float = 3600.0
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extra: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    omit: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.base_url.startswith(("http://", "https://")) or not self.model:
            raise UserError(
                f"endpoint.base_url={self.base_url!r} and endpoint.model={self.model!r} must be a URL, as "
                "http://localhost:8000/v1, and the name of a model there."
            )
        if self.concurrency < 1 or self.requests_per_minute < 0 or self.max_retries < 0 or self.timeout_s <= 0:
            raise UserError(
                "endpoint needs concurrency >= 1, requests_per_minute >= 0, max_retries >= 0 and timeout_s > 0."
            )


class EndpointGenerator:
    """A Generator that asks a server.

    A server that keeps to the `seed` of a request gives the same answers again; most do so roughly or not at all.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        sampling: SamplingParams,
        stop: Sequence[str] = (),
        *,
        failures_end_it: bool = True,
    ):
        """Connects when first asked.

        Args:
          settings: of the server.
          sampling: temperature and so on; top_k and min_p, which the protocol does not have, are sent where they are
            set. A server cannot force the end of a thought.
          stop: strings at which an answer ends.
          failures_end_it: whether a request that fails for good ends the call; else it gets an answer of finish reason
            "failed" that says why, and the others go on.

        Raises:
          UserError: for a limit of the thought.
        """
        if sampling.max_thought != SamplingParams().max_thought:
            raise UserError("a server cannot end a thought by force; leave decoding.max_thought out.")
        self._settings, self._failures_end_it = settings, failures_end_it
        self._fields = _request_fields(settings, sampling, stop)
        self._pace = _Pace(settings.requests_per_minute)

    def __call__(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        num_samples: int = 1,
        seed: int,
        prompt_ids: Sequence[int] | None = None,
        sample_ids: Sequence[Sequence[int]] | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[list[Completion]]:
        """Answers conversations (see `Generator`).

        Raises:
          UserError: if the server cannot be reached or refuses, after all attempts.
        """
        prompt_ids = range(len(conversations)) if prompt_ids is None else prompt_ids
        sample_ids = [range(num_samples)] * len(conversations) if sample_ids is None else sample_ids
        asked = [(number, sample) for number, samples in enumerate(sample_ids) for sample in samples]
        requests = [
            {
                "messages": list(conversations[number]),
                **({} if "seed" in self._settings.omit else {"seed": _request_seed(seed, prompt_ids[number], sample)}),
            }
            for number, sample in asked
        ]
        completions = self._ask_all(requests, on_completion)
        in_order = iter(completions)
        return [[next(in_order) for _ in samples] for samples in sample_ids]

    def _ask_all(self, requests: list[dict[str, Any]], on_completion: OnCompletion | None) -> list[Completion]:
        """Sends requests from threads and takes in the answers here, in the order in which they come."""
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        arrived: queue.SimpleQueue[tuple[int, Completion | BaseException]] = queue.SimpleQueue()
        stopped = threading.Event()
        for row in range(len(requests)):
            waiting.put(row)

        def work() -> None:
            while not stopped.is_set():
                try:
                    row = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    arrived.put((row, self._answer(client, requests[row])))
                except BaseException as error:  # raised again by the thread that waits
                    stopped.set()
                    arrived.put((row, error))

        completions: dict[int, Completion] = {}
        failure: BaseException | None = None
        # Daemons: an interrupt does not wait for thoughts that take an hour.
        workers = min(self._settings.concurrency, len(requests))
        with self._client() as client:
            threads = [threading.Thread(target=work, daemon=True, name=f"endpoint-{i}") for i in range(workers)]
            for thread in threads:
                thread.start()
            try:
                while len(completions) < len(requests):
                    row, answer = arrived.get()
                    if isinstance(answer, BaseException):
                        failure = failure or answer
                    else:
                        completions[row] = answer
                        if on_completion is not None:
                            on_completion(row, answer)
                    if failure is not None and arrived.empty():  # what has come in by now is not lost
                        raise failure
            finally:
                stopped.set()
        return [completions[row] for row in range(len(requests))]

    def _answer(self, client, request: Mapping[str, Any]) -> Completion:
        """Returns the answer to a request, or that it failed, where that is one."""
        try:
            return self._ask(client, request)
        except UserError as error:
            if self._failures_end_it:
                raise
            return Completion(str(error), 0, "failed")

    def _ask(self, client, request: Mapping[str, Any]) -> Completion:
        """Sends one request, again and again if need be."""
        import openai

        try:
            reply = client.chat.completions.create(**self._fields, **request)
            completion = _completion(reply)
            if completion is not None:
                return completion
            what = _not_a_completion(reply)
        except openai.APIStatusError as error:
            code = error.body.get("code") if isinstance(error.body, dict) else None
            if error.status_code in (400, 413, 422) and code in _REFUSALS:
                return Completion("", 0, "refused")
            said = _one_line(error.message).removeprefix(f"Error code: {error.status_code}").removeprefix(" - ")
            what = f"answers {error.status_code}: {said or 'without a reason'}"
            if error.status_code == 401:
                what += f" (the key is read from the environment variable {self._settings.api_key_env})"
        except openai.APITimeoutError:
            what = f"gave no answer within {self._settings.timeout_s:g} s"
        except openai.APIConnectionError as error:
            what = f"cannot be reached: {_one_line(error.__cause__ or error)}"
        except (openai.APIError, ValueError) as error:  # a ValueError for a body that is no JSON
            what = f"sent what is no chat completion: {_one_line(error)}"
        raise UserError(
            f"the endpoint {self._settings.base_url} {what}. Finished answers are kept: mend it and start the same "
            "command again."
        )

    def _client(self):
        """Returns a client of the server."""
        import openai

        settings = self._settings
        return openai.OpenAI(
            base_url=settings.base_url,
            api_key=os.environ.get(settings.api_key_env) or "none",
            max_retries=settings.max_retries,
            timeout=settings.timeout_s,
            # Before every attempt: the pace is kept by those that the client makes by itself, too.
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [lambda _: self._pace.wait()]}),
        )


class _Pace:
    """Spreads the starts of attempts so that no minute has more of them than allowed."""

    def __init__(self, requests_per_minute: int):
        self._interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Returns when this thread may start a request."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._interval_s
        time.sleep(max(0.0, start - time.monotonic()))


def _request_fields(settings: EndpointSettings, sampling: SamplingParams, stop: Sequence[str]) -> dict[str, Any]:
    """Returns what all requests share; a field left out would take the server's default, which nobody recorded."""
    fields: dict[str, Any] = {
        "model": settings.model,
        settings.limit_field: int(sampling.max_tokens),
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
    }
    if stop:
        fields["stop"] = list(stop)
    extra = dict(settings.extra)
    if sampling.top_k:
        extra["top_k"] = int(sampling.top_k)
    if sampling.min_p:
        extra["min_p"] = float(sampling.min_p)
    sent = {name: value for name, value in fields.items() if name not in settings.omit}
    apart = {name: value for name, value in extra.items() if name not in settings.omit}
    return {**sent, "extra_body": apart} if apart else sent


def _request_seed(seed: int, prompt_id: int, sample: int) -> int:
    """Returns the seed of one request, in the range that servers take."""
    return int(np.random.SeedSequence([seed, prompt_id, sample]).generate_state(1)[0]) % 2**31


def _completion(reply) -> Completion | None:
    """Reads a reply, or returns None where it is not one; a thought that the server holds apart gets its tags back."""
    choices = getattr(reply, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = getattr(choice, "message", None)
    text = _text(getattr(message, "content", None))
    if message is None or text is None:
        return None
    apart = message.model_extra or {}
    thought = apart.get("reasoning_content") or apart.get("reasoning")
    if isinstance(thought, str) and thought and "</think>" not in text:
        closed = "</think>" if text or choice.finish_reason != "length" else ""
        text = f"<think>{thought}{closed}{text}"
    reason = {"length": "length", "content_filter": "refused"}.get(choice.finish_reason, "stop")
    return Completion(text, getattr(reply.usage, "completion_tokens", None) or 0, reason)


def _text(content: Any) -> str | None:
    """Returns the text of a message, which some servers send in parts; None for what is no text."""
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        content = "".join(str(part["text"]) for part in content if part.get("text"))
    return "" if content is None else content if isinstance(content, str) else None


def _not_a_completion(reply) -> str:
    """Says what is wrong with a reply; some servers report their failures under the status of a success."""
    error = (getattr(reply, "model_extra", None) or {}).get("error")
    if error:
        return f"answers with an error: {_one_line(error.get('message') if isinstance(error, dict) else error)}"
    return "sent what is no chat completion; is base_url right? It mostly ends with /v1"


def _one_line(text: Any) -> str:
    return " ".join(str(text).split())[:300].rstrip(".")
