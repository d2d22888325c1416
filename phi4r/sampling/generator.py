"""Generators: conversations in, texts out, whatever stands behind. What evaluation and curation ask."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np

from phi4r.sampling.samples import FINISH_STOP
from phi4r.sampling.logits import SamplingParams
from phi4r.sampling.sampler import Sampler
from phi4r.text.chat import Chat
from phi4r.text.template import Message
from phi4r.typing import Params


@dataclasses.dataclass(frozen=True)
class Completion:
    """One answer: its text (special tokens dropped, but for the thought's tags), tokens, and "stop" or "length"."""

    text: str
    num_tokens: int
    finish_reason: str


class Generator(Protocol):
    """Answers conversations; `seed` makes the answers repeatable where the source can."""

    def __call__(
        self, conversations: Sequence[Sequence[Message]], *, num_samples: int, seed: int
    ) -> list[list[Completion]]:
        """Returns `num_samples` completions of each conversation."""


@dataclasses.dataclass(frozen=True)
class SamplerGenerator:
    """A Generator on our own sampler.

    Attributes:
      sampler: fixed shapes and compiled programs.
      unrolled: `sampler.unroll(params)`.
      chat: renders conversations to prompt ids, and decodes.
      sampling: temperature and so on.
    """

    sampler: Sampler
    unrolled: Params
    chat: Chat
    sampling: SamplingParams

    def __call__(
        self, conversations: Sequence[Sequence[Message]], *, num_samples: int, seed: int
    ) -> list[list[Completion]]:
        """Returns `num_samples` completions of each conversation."""
        prompts = [self.chat.prompt_ids(messages) for messages in conversations]
        samples = self.sampler.sample(
            self.unrolled, prompts, jax.random.key(seed), num_samples=num_samples, sampling=self.sampling
        )
        completions = [
            Completion(text, int(length), "stop" if reason == FINISH_STOP else "length")
            for text, length, reason in zip(
                decode_responses(samples, self.chat), samples.lengths, samples.finish_reason, strict=True
            )
        ]
        return [completions[i : i + num_samples] for i in range(0, len(completions), num_samples)]


def decode_responses(samples, chat: Chat) -> list[str]:
    """Returns the text of every response, with the thought's tags and without the end token."""
    tokenizer = chat.tokenizer
    texts = []
    for tokens, mask in zip(np.asarray(samples.tokens), np.asarray(samples.response_mask), strict=True):
        ids = [int(token) for token in tokens[mask]]
        if ids and ids[-1] == tokenizer.eos_id:
            ids.pop()
        texts.append(tokenizer.decode(ids))
    return texts
