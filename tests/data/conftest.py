"""A chat of one token a character, so that every length in these tests can be counted by eye."""

import dataclasses

import pytest

END = 1  # ends every message


@dataclasses.dataclass(frozen=True)
class CharExample:
    tokens: list[int]
    trained: list[bool]


class CharChat:
    """A message of n characters becomes n code points and END; the assistant's are trained."""

    def example(self, messages):
        tokens, trained = [], []
        for message in messages:
            ids = [ord(character) for character in message["content"]] + [END]
            tokens += ids
            trained += [message["role"] == "assistant"] * len(ids)
        return CharExample(tokens, trained)


@pytest.fixture
def chat() -> CharChat:
    return CharChat()
