"""The program in a response: its last Python block."""

import re

from phi4r.verifiers.answers import END_OF_THOUGHT

_FENCE = re.compile(r"(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})(?P<label>[^\r\n]*)")
_LATE_FENCE = re.compile(r"(?P<indent>)(?P<marks>`{3}|~{3})(?P<label>python3?|py)[ \t\r]*$", re.IGNORECASE)
_PYTHON = ("python", "python3", "py")
_CODE = re.compile(
    r"(?:from[ \t]+[\w.]+[ \t]+import\b|import[ \t]+\w[\w.]*[ \t]*(?:,|;|#|$|as\b)|(?:async[ \t]+)?def[ \t]+\w+[ \t]*\("
    r"|class[ \t]+\w+[ \t]*[(:]|@[A-Za-z_])"
)


def answered_program(response: str, *, thinking: bool) -> str | None:
    """Returns the last Python block after the thought; None without one, or where the thought was cut off."""
    _, closed, solution = response.rpartition(END_OF_THOUGHT)
    return None if thinking and not closed else last_python_block(solution)


def last_python_block(text: str) -> str | None:
    """Returns the program of a solution, or None.

    That is the last fenced block labelled as Python; where none is, the last block without a label. A block that is not
    closed runs to the end, and an indented one (of a list) loses its indentation. A block begins with a line, or, if it
    is labelled as Python, at the end of one. Text without any fence is a program from the first line on that can only
    be code: an import, a decorator, or the head of a function or a class.

    Args:
      text: what follows the thought. The search is linear in its length.
    """
    blocks = _fenced_blocks(text)
    for labels in (_PYTHON, ("",)):
        matching = [code for label, code in blocks if label in labels]
        if matching:
            return matching[-1]
    return None if blocks else _unfenced(text)


def _fenced_blocks(text: str) -> list[tuple[str, str]]:
    """Returns label, in lower case, and content of each fenced block."""
    blocks: list[tuple[str, str]] = []
    opening: re.Match | None = None
    content: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if opening is None:
            opening, content = fence or _LATE_FENCE.search(line), []
        elif fence and fence["marks"].startswith(opening["marks"]) and not fence["label"].rstrip()[:1].strip():
            blocks.append(_block(opening, content))
            opening, content = _LATE_FENCE.search(line, fence.start("label")), []
        else:
            content.append(line)
    if opening is not None:
        blocks.append(_block(opening, content))
    return blocks


def _block(opening: re.Match, lines: list[str]) -> tuple[str, str]:
    words = opening["label"].strip().strip("{}.").lower().split()
    indent = opening["indent"]
    return words[0] if words else "", "\n".join(line.removeprefix(indent) for line in lines)


def _unfenced(text: str) -> str | None:
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if _CODE.match(line):
            return "\n".join(lines[number:])
    return None
