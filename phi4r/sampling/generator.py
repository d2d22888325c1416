"""Generators: conversations in, texts out, whatever stands behind. What evaluation and curation ask."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import numpy as np

from phi4r.sampling.logits import SamplingParams
from phi4r.sampling.sampler import OnTokens, Sampler
from phi4r.text.chat import Chat
from phi4r.text.streaming import StopStrings
from phi4r.text.template import Message
from phi4r.typing import Params


@dataclasses.dataclass(frozen=True)
class Completion:
    """One answer.

    Attributes:
      text: special tokens dropped, but for the thought's tags; it ends before a stop string.
      num_tokens: that were drawn, those of the end or of a stop string included.
      finish_reason: "stop" where the model ended or a stop string was drawn, "length" where it was cut off, "refused"
        where a server would not answer, "failed" where it could not, and the call went on: the text then says why.
    """

    text: str
    num_tokens: int
    finish_reason: str


# Called as soon as an answer is finished, while others are still drawn: (row, the answer). Rows are the samples of the
# first conversation, then those of the second, and so on.
OnCompletion = Callable[[int, Completion], None]


class Generator(Protocol):
    """Answers conversations; `seed` makes the answers repeatable where the source can."""

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
        """Answers conversations.

        Args:
          conversations: what is asked.
          num_samples: answers to each.
          seed: with a prompt id and a sample id it decides an answer, whatever else is asked.
          prompt_ids: stable number of each conversation; default 0, 1, 2, ...
          sample_ids: which samples of each conversation are wanted; default 0, 1, ... num_samples - 1 of all.
          on_completion: called for every answer when it is finished, perhaps in another thread, one call at a time.

        Returns:
          The completions of each conversation.
        """


@dataclasses.dataclass(frozen=True)
class SamplerGenerator:
    """A Generator on our own sampler.

    Attributes:
      sampler: fixed shapes and compiled programs.
      unrolled: `sampler.unroll(params)`.
      chat: renders conversations to prompt ids, and decodes.
      sampling: temperature and so on; its `max_thought` needs a sampler that knows the token which ends a thought.
      stop: strings at which an answer ends.
    """

    sampler: Sampler
    unrolled: Params
    chat: Chat
    sampling: SamplingParams
    stop: tuple[str, ...] = ()

    def __call__(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        num_samples: int = 1,
        seed: int,
        prompt_ids: Sequence[int] | None = None,
        sample_ids: Sequence[Sequence[int]] | None = None,
        on_tokens: OnTokens | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[list[Completion]]:
        """Answers conversations (see `Generator`).

        Args:
          conversations, num_samples, seed, prompt_ids, sample_ids, on_completion: as every generator takes them.
          on_tokens: called for every answer with the tokens of each burst of the sampler.
        """
        sample_ids = [range(num_samples)] * len(conversations) if sample_ids is None else sample_ids
        stop = StopStrings(self.chat.tokenizer, self.stop)
        completions: dict[int, Completion] = {}

        def finish(row: int, tokens: np.ndarray, stopped: bool) -> None:
            text = stop.cut(_response_text(tokens.tolist(), self.chat))
            completions[row] = Completion(text, len(tokens), "stop" if stopped else "length")
            if on_completion is not None:
                on_completion(row, completions[row])

        self.sampler.sample(
            self.unrolled,
            [self.chat.prompt_ids(messages) for messages in conversations],
            jax.random.key(seed),
            prompt_ids=prompt_ids,
            sample_ids=sample_ids,
            sampling=self.sampling,
            on_tokens=on_tokens,
            on_finished=finish,
            find_stop=stop.find if self.stop else None,
        )
        in_order = iter(range(len(completions)))
        return [[completions[next(in_order)] for _ in samples] for samples in sample_ids]


def decode_responses(samples, chat: Chat) -> list[str]:
    """Returns the text of every response, with the thought's tags and without the end token."""
    return [
        _response_text(tokens[mask].tolist(), chat)
        for tokens, mask in zip(np.asarray(samples.tokens), np.asarray(samples.response_mask), strict=True)
    ]


def _response_text(ids: list[int], chat: Chat) -> str:
    if ids and ids[-1] == chat.tokenizer.eos_id:
        ids = ids[:-1]
    return chat.tokenizer.decode(ids)
