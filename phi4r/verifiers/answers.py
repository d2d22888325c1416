r"""Finds the final answer in a response: after the thought, in the last box.

Order of search: the text after the LAST `</think>`; in it the last balanced `\boxed{...}` or `\fbox{...}`; where
there is no box, what follows the last "final answer is" or "answer:". Every step is linear in the length of the
response, so hostile text (thousands of unclosed boxes) costs no more than any other.
"""

import re

END_OF_THOUGHT = "</think>"

_BRACES = re.compile(r"\\(?P<box>boxed|fbox)\s*\{|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_ANNOUNCED = re.compile(r"(?:final answer(?: is)?|answer)\s*(?:(?<=is)|:)\**\s*:?\**", re.IGNORECASE)
_DELIMITED = re.compile(r"\$\$(.+?)\$\$|\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)


def final_answer(response: str, *, thinking: bool = False) -> str | None:
    """Returns the final answer as written, or None.

    Args:
      response: the decoded text of the assistant's turn.
      thinking: whether the model is one that thinks first. Its response without `</think>` was cut off within the
        thought: whatever it boxed there was not yet an answer.
    """
    _, closed, solution = response.rpartition(END_OF_THOUGHT)
    if thinking and not closed:
        return None
    answer = last_box(solution)
    if answer is None:
        answer = _announced(solution)
    return answer or None


def last_box(text: str) -> str | None:
    r"""Returns the content of the last balanced `\boxed{...}` or `\fbox{...}` (the outer one of nested boxes)."""
    opened: list[int | None] = []  # where the content of each open box starts; None for other braces
    content = None
    for token in _BRACES.finditer(text):
        if token["box"]:
            opened.append(token.end())
        elif token["open"]:
            opened.append(None)
        elif token["close"] and opened:
            start = opened.pop()
            if start is not None:
                content = (start, token.start())
    return None if content is None else text[slice(*content)].strip()


def _announced(text: str) -> str | None:
    """Returns what follows the last "final answer is" or "answer:": the formula, or else the rest of the line."""
    matches = list(_ANNOUNCED.finditer(text))
    if not matches:
        return None
    tail = text[matches[-1].end() :].lstrip()
    formula = _DELIMITED.match(tail)
    if formula:
        return next(group for group in formula.groups() if group is not None).strip()
    line = tail.split("\n", 1)[0]
    line = re.split(r"\.\s", line, maxsplit=1)[0]
    return line.strip().strip("*").rstrip(".").strip()
