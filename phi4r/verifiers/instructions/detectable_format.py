"""Instructions about the format of a response."""

import json
import re

from phi4r.verifiers.instructions.arguments import Arguments, Check

_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_BULLET = re.compile(r"^[ \t]*[*-][ \t]+(?=\S)(?!(?:[*-][ \t]*)+$)", re.MULTILINE)
_PUBLISHED_BULLET = re.compile(r"^[^\S\n]*(?:\*[^*]|-)", re.MULTILINE)
_EMPHASIS = re.compile(r"(?<!\*)(?P<stars>\*{1,3})(?![\s*])[^\n*]+(?<!\s)(?P=stars)(?!\*)")
_PUBLISHED_SINGLE = re.compile(r"\*([^\n*]*)\*")
_PUBLISHED_DOUBLE = re.compile(r"\*\*([^\n*]*)\*\*")
_FENCE = re.compile(r"```(?:json)?", re.IGNORECASE)


def number_bullet_lists(arguments: Arguments) -> Check:
    """There are exactly `num_bullets` bullet points: lines that begin with `*` or `-`, a blank and text.

    compat: every line that begins with `-` (a rule `---`, a number below zero) and every line that begins with one `*`
    (a line of emphasis) is a bullet point.
    """
    number = arguments.count("num_bullets")
    pattern = _PUBLISHED_BULLET if arguments.compat else _BULLET
    return lambda text: sum(1 for _ in pattern.finditer(text)) == number


def constrained_response(arguments: Arguments) -> Check:
    """Exactly one of "My answer is yes.", "My answer is no." and "My answer is maybe." is there, as it is written.

    compat: two or all three may be.
    """
    most = len(_OPTIONS) if arguments.compat else 1
    return lambda text: 1 <= sum(option in text for option in _OPTIONS) <= most


def number_highlighted_sections(arguments: Arguments) -> Check:
    """There are at least `num_highlights` passages in `*emphasis*`, `**strong**` or `***both***`, each in one line.

    compat: any two stars of a line with text between them are a highlight, the star of a bullet point too, and a
    passage between double stars can count twice.
    """
    number = arguments.count("num_highlights")
    count = _published_highlights if arguments.compat else _highlights
    return lambda text: count(text) >= number


def multiple_sections(arguments: Arguments) -> Check:
    """There are at least `num_sections` section marks: the word `section_spliter` and a number, as "SECTION 1"."""
    number = arguments.count("num_sections")
    pattern = re.compile(re.escape(arguments.text("section_spliter")) + r"\s?\d+")
    return lambda text: sum(1 for _ in pattern.finditer(text)) >= number


def json_format(arguments: Arguments) -> Check:
    """The whole response is one JSON value, in a Markdown fence or not.

    compat: NaN and Infinity are JSON.
    """
    constant = float if arguments.compat else _no_constant
    return lambda text: _is_json(text.strip(), constant)


def title(arguments: Arguments) -> Check:
    """There is a title that is not empty in `<<double angular brackets>>`, in one line."""
    del arguments
    return lambda text: any(_has_title(line) for line in text.split("\n"))


def _highlights(text: str) -> int:
    return sum(1 for _ in _EMPHASIS.finditer(text))


def _published_highlights(text: str) -> int:
    passages = _PUBLISHED_SINGLE.findall(text) + _PUBLISHED_DOUBLE.findall(text)
    return sum(bool(passage.strip()) for passage in passages)


def _is_json(text: str, constant) -> bool:
    fence = _FENCE.match(text)
    if fence:
        text = text[fence.end() :].removesuffix("```")
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=constant)
    except (ValueError, RecursionError):  # a value too deep to be read is none that anybody asked for
        return False
    return True


def _no_constant(name: str):
    raise ValueError(f"{name} is not JSON")


def _has_title(line: str) -> bool:
    start, end = line.find("<<"), line.rfind(">>")
    return start >= 0 and bool(line[start:end].strip("<> \t\r")) and end > start
