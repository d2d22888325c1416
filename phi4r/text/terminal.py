"""Responses on a terminal, or on a pipe: written as they are drawn, one after the other.

On a terminal the thought has another colour, and nothing that a model writes is a control character, but for line ends
and tabs. On a pipe the text goes out as it is.
"""

import os
import re
from collections.abc import Sequence
from typing import TextIO

from phi4r.text.streaming import StopStrings, TextStream, unfinished_marker
from phi4r.text.tokenizer import END_THINK, THINK

THOUGHT_COLOUR, PLAIN = "\033[2;36m", "\033[0m"

_TAGS = re.compile(f"({re.escape(THINK)}|{re.escape(END_THINK)})")
# What a model writes must not be able to move the cursor or to set the title of a window.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class ThoughtPainter:
    """Colours the thought of one response, which may come in parts that are cut anywhere."""

    def __init__(self, *, colour: bool = True):
        """Begins outside of a thought; without `colour` only control characters are replaced."""
        self._codes = (THOUGHT_COLOUR, PLAIN) if colour else ("", "")
        self._held = ""  # may begin a tag
        self._thinking = False

    def add(self, text: str) -> str:
        """Returns the next part with the codes of its colours, up to what may begin a tag."""
        text = self._held + text
        self._held = unfinished_marker(text, (THINK, END_THINK))
        return self._paint(text[: len(text) - len(self._held)])

    def finish(self) -> str:
        """Returns what was held back, and the code that ends the colour of a thought that is still open."""
        rest = self._paint(self._held) + (self._codes[1] if self._thinking else "")
        self._held, self._thinking = "", False
        return rest

    def _paint(self, text: str) -> str:
        painted = ""
        for piece in _TAGS.split(text):
            if piece == THINK and not self._thinking:
                self._thinking = True
                painted += self._codes[0] + piece
            elif piece == END_THINK and self._thinking:
                self._thinking = False
                painted += piece + self._codes[1]
            else:
                painted += piece.translate(_CONTROLS)
        return painted


class ResponseWriter:
    """Writes responses that are drawn at the same time in their order: the first that is not finished is live.

    What is drawn of the others is written when it is their turn.
    """

    def __init__(self, titles: Sequence[str], stop: StopStrings, out: TextIO):
        """Writes the first title.

        Args:
          titles: of every response, a line above it; "" for none.
          stop: decodes, and says where a response ends.
          out: where to write; coloured if it is a terminal and NO_COLOR is not set.
        """
        self._titles, self._out = titles, out
        self._eos_id = stop.tokenizer.eos_id
        self._streams = [TextStream(stop) for _ in titles]
        self._waiting = [""] * len(titles)  # text that is not yet written
        self._notes = [""] * len(titles)
        self._finished = [False] * len(titles)
        self._live = 0
        self._is_terminal = out.isatty()
        self._painter = ThoughtPainter(colour=not os.environ.get("NO_COLOR"))
        self._begin()

    def add(self, row: int, tokens: Sequence[int]) -> None:
        """Takes the next tokens of a response."""
        if tokens and tokens[-1] == self._eos_id:
            tokens = tokens[:-1]
        self._take(row, self._streams[row].add(tokens))

    def note(self, row: int, text: str) -> None:
        """Takes lines to be written below a response."""
        self._notes[row] += text

    def finish(self, row: int) -> None:
        """Ends a response, and goes on to the next where it was live."""
        self._take(row, self._streams[row].finish())
        self._finished[row] = True
        while self._live < len(self._titles) and self._finished[self._live]:
            self.close()
            self._out.write("\n" + self._notes[self._live])
            self._live += 1
            self._begin()
        self._out.flush()

    def close(self) -> None:
        """Writes what is held back of the live response, and ends its colour."""
        if self._is_terminal:
            self._out.write(self._painter.finish())
            self._out.flush()

    def _begin(self) -> None:
        """Writes what there is of the response whose turn it is."""
        if self._live < len(self._titles):
            self._out.write(self._titles[self._live])
            self._take(self._live, "")

    def _take(self, row: int, text: str) -> None:
        self._waiting[row] += text
        if row == self._live and self._waiting[row]:
            text, self._waiting[row] = self._waiting[row], ""
            self._out.write(self._painter.add(text) if self._is_terminal else text)
            self._out.flush()
