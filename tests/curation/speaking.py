"""Models for tests of curation: what they say is the test's, and what they were asked is kept."""

import threading
from collections.abc import Callable

from phi4r.curation.asking.asking import Asker
from phi4r.curation.item import Item
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion

# (the last message, number of the sample) -> text, a Completion, or an error that the model ends the call with
Says = Callable[[str, int], "str | Completion | UserError"]


class Speaker:
    """A generator that says what a function says; it keeps (prompt, sample) of all it was asked, in order."""

    def __init__(self, says: Says):
        self._says, self._guard = says, threading.Lock()
        self.asked: list[tuple[str, int]] = []
        self.conversations: list = []

    def __call__(
        self, conversations, *, num_samples=1, seed, prompt_ids=None, sample_ids=None, on_completion=None
    ) -> list[list[Completion]]:
        sample_ids = [range(num_samples)] * len(conversations) if sample_ids is None else sample_ids
        answers, row = [], 0
        for conversation, samples in zip(conversations, sample_ids, strict=True):
            of_prompt = []
            for sample in samples:
                with self._guard:
                    self.asked.append((conversation[-1]["content"], sample))
                    self.conversations.append(conversation)
                said = self._says(conversation[-1]["content"], sample)
                if isinstance(said, UserError):
                    raise said
                of_prompt.append(Completion(said, len(said.split()), "stop") if isinstance(said, str) else said)
                if on_completion is not None:
                    on_completion(row, of_prompt[-1])
                row += 1
            answers.append(of_prompt)
        return answers


def speaker(says: Says, *, thinking: bool = False, cache=None, name: str = "m") -> tuple[Speaker, Asker]:
    """Returns a model, and what asks it."""
    model = Speaker(says)
    return model, Asker(model, {"model": name}, cache, thinking=thinking)


def says(*texts) -> Says:
    """Says these in turn, by the number of the sample."""
    return lambda prompt, sample: texts[sample]


def make_item(prompt: str = "What is 1 + 1?", **fields) -> Item:
    return Item(fields.pop("id", "i"), prompt, **fields)


def user(*prompts: str) -> list:
    return [[{"role": "user", "content": prompt}] for prompt in prompts]
