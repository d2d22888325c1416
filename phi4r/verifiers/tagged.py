r"""Finds answers written as `<final_answer>{'Key': 'value'}</final_answer>`, or in short as `\boxed{value}`.

After the LAST `</think>` the last balanced tag counts; where there is none, the last balanced box. What a tag holds
is read by `ast.literal_eval`, which knows constants and containers only, behind a screen: a short text, few nested
brackets, no long numbers, no escapes. A hostile answer therefore costs no more than a search through its text.
"""

import ast
import re
from dataclasses import dataclass
from typing import Any

from phi4r.verifiers.answers import END_OF_THOUGHT, last_box

MAX_LENGTH = 1000  # characters of an answer; a tour of 18 cities has 70
MAX_DEPTH = 5  # nested brackets
MAX_DIGITS = 64  # of one number

_TAGS = re.compile(r"<(/?)final_answer>")
_LONG_NUMBER = re.compile(rf"[\d_]{{{MAX_DIGITS + 1}}}")
_UNREADABLE = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)  # all that literal_eval raises


@dataclass(frozen=True)
class TaggedAnswer:
    """An answer that was found.

    Attributes:
      value: what stands at the key that was asked for, or in the box; a list is written out with commas. None where
        the answer is not of that form.
      text: the value or, where there is none, all that stands between the tags or in the box.
    """

    value: str | None
    text: str


def tagged_answer(response: str, key: str, *, thinking: bool = False) -> TaggedAnswer | None:
    r"""Returns the final answer of a response, or None where there is neither a tag nor a box.

    A tag holds a dict with `key`, or the bare value as a string literal.

    Args:
      response: the decoded text of the assistant's turn.
      key: the one that matters; others are ignored.
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
    """
    _, closed, solution = response.rpartition(END_OF_THOUGHT)
    if thinking and not closed:
        return None
    written = last_tag(solution)
    if written is not None:
        value = _value(read_literal(written), key)
        return TaggedAnswer(value, written if value is None else value)
    written = last_box(solution)
    if written is None:
        return None
    return TaggedAnswer(written if len(written) <= MAX_LENGTH else None, written)


def last_tag(text: str) -> str | None:
    """Returns the content of the last `<final_answer>` that is closed (the inner one of nested tags)."""
    content, start = None, None
    for tag in _TAGS.finditer(text):
        if not tag[1]:
            start = tag.end()
        elif start is not None:
            content, start = (start, tag.start()), None
    return None if content is None else text[slice(*content)].strip()


def read_literal(text: str) -> Any:
    """Returns the Python constant or container that `text` spells, or None; never evaluates anything."""
    if len(text) > MAX_LENGTH or "\\" in text or _LONG_NUMBER.search(text) or _depth(text) > MAX_DEPTH:
        return None
    try:
        return ast.literal_eval(text)
    except _UNREADABLE:
        return None


def _depth(text: str) -> int:
    """Returns how deeply brackets are nested, those within strings counted as well."""
    deepest = depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _value(literal: Any, key: str) -> str | None:
    """Returns what a literal says of `key`, as text."""
    value = literal.get(key) if isinstance(literal, dict) else literal
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list | tuple) and all(isinstance(item, str | int) for item in value):
        return ", ".join(map(str, value))
    return None
