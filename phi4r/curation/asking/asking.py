"""Asking models, each question once: what was answered before is in a cache (`phi4r.curation.asking.ask_cache`).

A question is a conversation with all that decides an answer to it: the model, how it decodes, the seed. Each of its
samples has a number. A stage that wants a fresh answer asks for the next number, and a run that was killed finds all
that was answered when it is started again.
"""

import collections
import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.curation.asking.ask_cache import AnswerCache, CacheError, Key
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion, Generator
from phi4r.text.template import Message

Conversation = Sequence[Message]

REFUSED, FAILED = "refused", "failed"  # finish reasons of what is no answer: the text of a failure says what happened
MAX_FAILURES = 100  # in a row, before a run ends; not in the paper
_WAIT_S = 0.05  # between two looks whether another process has its answer


class ServerGoneError(UserError):
    """Too many requests in a row have failed."""


class Asker:
    """Asks one model.

    Attributes:
      thinking: whether the answers of the model show its thought between tags.
      identity: JSON values that name the model, with all that decides an answer.
      counts: "hits" (answers found in the cache), "asked", "tokens" (of those asked), "refused", "failed".
    """

    def __init__(
        self,
        generator: Generator,
        identity: Mapping[str, Any],
        cache: AnswerCache | None,
        *,
        thinking: bool = False,
        seed: int = 0,
        max_failures: int = MAX_FAILURES,
    ):
        """Asks nothing yet.

        Args:
          generator: the model.
          identity: JSON values; whatever changes an answer of `generator` has to change them.
          cache: keeps the answers; None asks each time, for models that cost nothing.
          thinking: whether the answers of the model show its thought between tags.
          seed: of all sampling.
          max_failures: in a row, after which the run ends, for then the server is gone; 0 to go on for ever.
        """
        self.thinking = thinking
        self.identity = json.loads(json.dumps({**identity, "seed": seed}))
        self.counts: collections.Counter[str] = collections.Counter()
        self._generator, self._cache, self._seed = generator, cache, seed
        self._max_failures, self._failures_in_row = max_failures, 0
        self._guard = threading.Lock()

    def __call__(
        self,
        conversations: Sequence[Conversation],
        *,
        num_samples: int = 1,
        sample_ids: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Completion]]:
        """Returns the completions of each conversation.

        What the server refused, or could not answer, is a completion with `REFUSED` or `FAILED` for a finish reason; it
        is asked again the next time.

        Args:
          conversations: what is asked; the same one twice is asked once.
          num_samples: answers to each.
          sample_ids: which samples of each are wanted; default 0, 1, ... num_samples - 1 of all.

        Raises:
          UserError: after `max_failures` failures in a row, or for a cache that cannot be written.
        """
        sample_ids = [range(num_samples)] * len(conversations) if sample_ids is None else sample_ids
        questions = {self._digest(conversation): conversation for conversation in conversations}
        keys = [
            [Key(self._digest(conversation), sample) for sample in samples]
            for conversation, samples in zip(conversations, sample_ids, strict=True)
        ]
        answers = self._answers(list(dict.fromkeys(key for of in keys for key in of)), questions)
        return [[answers[key] for key in of] for of in keys]

    def _digest(self, conversation: Conversation) -> bytes:
        asked = {"conversation": [dict(message) for message in conversation], "identity": self.identity}
        text = json.dumps(asked, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode(errors="surrogatepass")).digest()[:16]

    def _answers(self, wanted: Sequence[Key], questions: Mapping[bytes, Conversation]) -> dict[Key, Completion]:
        """Returns an answer for each key, from the cache, the model, or another process that is asking just now."""
        if self._cache is None:
            return self._ask(wanted, questions)
        answers = self._found(wanted)
        while missing := [key for key in wanted if key not in answers]:
            claimed = self._cache.claim(missing)
            try:
                answers |= self._found(missing)  # answered by others since the last look
                answers |= self._ask([key for key in claimed if key not in answers], questions)
            finally:
                self._cache.release(claimed)
            if not claimed:
                time.sleep(_WAIT_S)
        return answers

    def _found(self, keys: Sequence[Key]) -> dict[Key, Completion]:
        found = self._cache.get(keys)
        with self._guard:
            self.counts["hits"] += len(found)
        return found

    def _ask(self, keys: Sequence[Key], questions: Mapping[bytes, Conversation]) -> dict[Key, Completion]:
        """Asks the model; where the call fails, what has no answer yet is asked question by question."""
        samples: dict[bytes, list[int]] = {}
        for key in keys:
            samples.setdefault(key.asked, []).append(key.sample)
        if not samples:
            return {}
        rows = [Key(asked, sample) for asked, of in samples.items() for sample in of]
        answers: dict[Key, Completion] = {}

        def take(row: int, completion: Completion) -> None:
            answers[rows[row]] = completion
            self._keep({rows[row]: completion})

        try:
            returned = self._generator(
                [questions[asked] for asked in samples],
                seed=self._seed,
                prompt_ids=[int.from_bytes(asked[:4], "big") // 2 for asked in samples],
                sample_ids=list(samples.values()),
                on_completion=take,
            )
        except (CacheError, ServerGoneError):
            raise
        except UserError as error:
            lost = [key for key in rows if key not in answers]
            if len(samples) > 1:
                for asked in dict.fromkeys(key.asked for key in lost):
                    answers |= self._ask([key for key in lost if key.asked == asked], questions)
                return answers
            untold = {key: Completion(str(error), 0, FAILED) for key in lost}
        else:
            completions = [completion for of in returned for completion in of]
            untold = {key: one for key, one in zip(rows, completions, strict=True) if key not in answers}
        self._keep(untold)
        return answers | untold

    def _keep(self, answers: Mapping[Key, Completion]) -> None:
        """Counts answers, and writes those that are some."""
        if self._cache is not None:
            self._cache.put({key: answer for key, answer in answers.items() if is_answer(answer)})
        with self._guard:
            for answer in answers.values():
                self.counts["asked" if is_answer(answer) else answer.finish_reason] += 1
                self.counts["tokens"] += answer.num_tokens
                self._failures_in_row = self._failures_in_row + 1 if answer.finish_reason == FAILED else 0
                if 0 < self._max_failures <= self._failures_in_row:
                    raise ServerGoneError(
                        f"{self._failures_in_row} requests in a row have failed, the last one with: {answer.text} "
                        "Nothing that was answered is lost: mend it and start the same command again."
                    )


def check_names(askers: Mapping[str, Asker], names: Sequence[str], *, stage: str) -> None:
    """Refuses names of generators that there are not, without opening any.

    Raises:
      UserError: for the first such name.
    """
    for name in names:
        if name not in askers:
            known = ", ".join(sorted(askers)) or "none"
            raise UserError(f"the stage {stage} asks the generator {name!r}, which there is not (there are: {known}).")


def is_answer(completion: Completion) -> bool:
    """Whether the model answered."""
    return completion.finish_reason not in (REFUSED, FAILED)


def shortcoming(completions: Sequence[Completion], who: str) -> tuple[str, str] | None:
    """Returns why answers cannot be judged together, for an outcome that failed, or None where all are there.

    Args:
      completions: that one decision needs.
      who: was asked, as "the weak model".

    Returns:
      The reason, the same for all items, and what was said.
    """
    for completion in completions:
        if completion.finish_reason == FAILED:
            return f"{who} did not answer", completion.text
        if completion.finish_reason == REFUSED:
            return f"the server of {who} refused", completion.text
    return None
