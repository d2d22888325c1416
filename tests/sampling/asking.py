"""Asking a chat server of the tests by an EndpointGenerator."""

from phi4r.sampling.endpoint import EndpointGenerator, EndpointSettings
from phi4r.sampling.generator import Completion
from phi4r.sampling.logits import SamplingParams
from tests.sampling.chat_server import ChatServer

SAMPLING = SamplingParams(temperature=0.5, top_p=0.75, max_tokens=64)


def generator(server: ChatServer, *, sampling=SAMPLING, stop=(), **settings) -> EndpointGenerator:
    values = {"model": "m", "max_retries": 0, "timeout_s": 20.0, **settings}
    return EndpointGenerator(EndpointSettings(base_url=server.url, **values), sampling, stop)


def conversations(*prompts: str) -> list:
    return [[{"role": "user", "content": prompt}] for prompt in prompts]


def ask(server: ChatServer, *prompts: str, seed: int = 0, **settings) -> list[Completion]:
    """Asks each prompt once and returns the answers."""
    return [answers[0] for answers in generator(server, **settings)(conversations(*prompts), seed=seed)]
