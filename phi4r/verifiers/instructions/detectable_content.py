"""Instructions about passages that a response must have."""

import re

from phi4r.verifiers.instructions.arguments import Arguments, Check

_PLACEHOLDER = re.compile(r"\[([^\[\]\n]*)\]")
_MARKERS = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s(?![^\W_])"}


def number_placeholders(arguments: Arguments) -> Check:
    """There are at least `num_placeholders` placeholders in square brackets.

    compat: empty brackets, and the boxes of a task list, are placeholders.
    """
    number = arguments.count("num_placeholders")

    def check(text: str) -> bool:
        names = _PLACEHOLDER.findall(text)
        return sum(arguments.compat or name.strip() not in ("", "x", "X") for name in names) >= number

    return check


def postscript(arguments: Arguments) -> Check:
    """There is a postscript with the given marker, in any case and with or without blanks after its dots."""
    marker = arguments.text("postscript_marker")
    pattern = re.compile(r"(?<![^\W_])" + _MARKERS.get(marker, re.escape(marker.lower())))
    return lambda text: pattern.search(text.lower()) is not None
