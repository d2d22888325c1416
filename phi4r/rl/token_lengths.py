"""How many characters of a response each of its tokens wrote, so that a reader needs no tokenizer."""

from collections.abc import Sequence

from phi4r.text.tokenizer import Tokenizer

_UNFINISHED = "\ufffd"  # what bytes that are not yet, or never, a character decode to
_LONGEST_RUN = 16


class TokenLengths:
    """Spells the tokens of responses one by one; what a token writes is looked up once and kept."""

    def __init__(self, tokenizer: Tokenizer):
        """Keeps the tokenizer whose ids will be given."""
        self._tokenizer = tokenizer
        self._pieces: dict[int, str] = {}

    def __call__(self, ids: Sequence[int], text: str) -> list[int] | None:
        """Returns the characters of `text` that each token wrote; they add up to `len(text)`.

        A character spelt by several tokens counts for the last of them, and the others have 0, as has the end token.

        Args:
          ids: the tokens of a response, with or without an end token.
          text: what all but the end token decode to.

        Returns:
          One number for each token, or None where the tokenizer writes a token differently among others than alone.
        """
        lengths: list[int] = []
        ended = bool(ids) and ids[-1] == self._tokenizer.eos_id
        last = len(ids) - ended
        while len(lengths) < last:
            start = len(lengths)
            piece = self._piece(ids[start])
            if _UNFINISHED in piece:
                lengths += self._run(ids[start : min(last, start + _LONGEST_RUN)])
            else:
                lengths.append(len(piece))
        return lengths + [0] * ended if sum(lengths) == len(text) else None

    def _piece(self, token: int) -> str:
        """Returns what one token writes alone."""
        if token not in self._pieces:
            self._pieces[token] = self._tokenizer.decode([token])
        return self._pieces[token]

    def _run(self, ids: Sequence[int]) -> list[int]:
        """Returns the lengths of as many tokens from the first on as it takes to end with a whole character."""
        for count in range(2, len(ids) + 1):
            written = self._tokenizer.decode(ids[:count])
            if not written.endswith(_UNFINISHED):
                return [0] * (count - 1) + [len(written)]
        return [0] * (len(ids) - 1) + [len(self._tokenizer.decode(ids))]
