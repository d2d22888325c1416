"""Text that arrives token by token: what of it is certain, and where a stop string ends it.

A token may end in the middle of a character, and a stop string begin in one token and end in another. So a stream
holds back what the next tokens could still change or take away; its parts joined are the text of all tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from phi4r.text.tokenizer import Tokenizer

_UNFINISHED = "\ufffd"  # how bytes are decoded that are no character, or not yet one


@dataclass(frozen=True)
class StopStrings:
    """Strings at which a response ends.

    Attributes:
      tokenizer: decodes the response.
      strings: none of them empty.
    """

    tokenizer: Tokenizer
    strings: tuple[str, ...]

    def find(self, tokens: Sequence[int], num_old: int) -> int | None:
        """Returns how many of `tokens` a response has that ends with the token that completes a stop string.

        Only the end of `tokens` is decoded, so a response costs the same at any length.

        Args:
          tokens: of a response so far.
          num_old: how many of them are known to complete none.

        Returns:
          A number above `num_old`, or None where no stop string is complete.
        """
        # Every token stands for at least one byte; one more, since some tokenizers strip the space of the first.
        longest = max((len(string.encode()) for string in self.strings), default=0)
        tail = tokens[max(0, num_old - longest) :]
        old = len(tokens) - len(tail)
        if not self._is_in(tail):
            return None
        low, high = num_old - old, len(tail)  # complete at `high`, not yet at `low`
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._is_in(tail[:middle]) else (middle, high)
        return old + high

    def cut(self, text: str) -> str:
        """Returns the text before the first stop string in it."""
        return text[: min((place for place in map(text.find, self.strings) if place >= 0), default=None)]

    def _is_in(self, tokens: Sequence[int]) -> bool:
        text = self.tokenizer.decode(tokens)
        return any(string in text for string in self.strings)


class TextStream:
    """The text of one response while it is drawn."""

    def __init__(self, stop: StopStrings):
        """Begins without tokens; `stop.strings` may be empty."""
        self._tokenizer, self._stop = stop.tokenizer, stop
        self._ids: list[int] = []  # from the last place on where no character was unfinished
        self._given = 0  # characters of their text that have been given
        self._held = ""  # certain characters that may begin a stop string
        self._stopped = False

    def add(self, tokens: Sequence[int]) -> str:
        """Takes the next tokens and returns the text that has become certain."""
        if self._ids and not self._tokenizer.decode(self._ids).endswith(_UNFINISHED):
            self._ids = self._ids[-1:]  # the last token stays, as what stands before the text of the next ones
            self._given = len(self._tokenizer.decode(self._ids))
        self._ids += tokens
        text = self._tokenizer.decode(self._ids)
        return self._pass(text[self._given : len(text) - text.endswith(_UNFINISHED)])

    def finish(self) -> str:
        """Returns what was held back, when there are no more tokens."""
        rest = self._pass(self._tokenizer.decode(self._ids)[self._given :]) + self._held
        self._held = ""
        return "" if self._stopped else rest

    def _pass(self, text: str) -> str:
        """Returns the text up to a stop string, or to what may begin one."""
        self._given += len(text)
        if self._stopped:
            return ""
        text = self._held + text
        before = self._stop.cut(text)
        self._stopped = len(before) < len(text)
        self._held = "" if self._stopped else unfinished_marker(before, self._stop.strings)
        return before[: len(before) - len(self._held)]


def unfinished_marker(text: str, markers: Sequence[str]) -> str:
    """Returns the longest end of `text` with which one of `markers` begins, short of the whole marker."""
    longest = max(map(len, markers), default=1) - 1
    ends = (text[len(text) - size :] for size in range(min(longest, len(text)), 0, -1))
    return next((end for end in ends if any(marker.startswith(end) and marker != end for marker in markers)), "")
