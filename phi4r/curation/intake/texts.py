"""Text of seeds: what is tidied when they are read, and what two prompts are compared by."""

import re
import unicodedata

# Blanks that are none of the usual ones, and marks without width, which no reader sees.
_UNSEEN = dict.fromkeys(map(ord, "\u200b\u200c\u2060\ufeff\u00ad"))
_BLANKS = dict.fromkeys(map(ord, "\u00a0\u2007\u202f"), " ")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_HALVES = re.compile(r"[\ud800-\udfff]")
_LINE_ENDS = re.compile(r"\r\n?|\u2028|\u2029|\x85")
_BLANKS_BEFORE_LINE_END = re.compile(r"[ \t]+(?=\n)")
_MARKS = re.compile(r"[,.;:?\"“”„«»…](?!\d)")


def tidied(text: str) -> str:
    """Returns text as the pipeline keeps it.

    Composed characters (NFC), line ends as \\n, no control characters, marks without width or blanks at the ends of
    lines, nothing blank around the whole. What a reader sees does not change.
    """
    text = _LINE_ENDS.sub("\n", text)
    text = _CONTROL.sub("", text.translate(_UNSEEN).translate(_BLANKS))
    text = unicodedata.normalize("NFC", _HALVES.sub("\ufffd", text))
    return _BLANKS_BEFORE_LINE_END.sub("", text).strip()


def comparable(text: str) -> str:
    """Returns what two prompts have in common that say the same in other capitals, punctuation or blanks.

    Marks between words go; those that could belong to a formula stay (3.5 and 3:45, n!, f'(x), 3-4, 3*4), so that two
    problems are not taken for one.
    """
    text = text.replace("\u2019", "'").replace("\u2018", "'").casefold()
    return " ".join(_MARKS.sub(" ", text).split())
