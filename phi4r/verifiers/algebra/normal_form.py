r"""One spelling for the many spellings of an answer: the string normal form.

Two answers with the same normal form are equal; two with different ones may still be (see `equivalence`). What is
removed or unified is notation, never mathematics: delimiters, sizes and spaces, `\dfrac`, `\frac12`, thousands
separators, currency, units. Degree and percent signs stay, for they can change the value.
"""
# ruff: noqa: RUF001 (look-alikes of ASCII characters are the subject of this file)

import re

from phi4r.verifiers.algebra.latex import closing, depth, join, split_top_level, tokenize
from phi4r.verifiers.answers import last_box

_UNICODE = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\cdot ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "∗": "*",
        "÷": "/",
        "π": r"\pi ",
        "√": r"\sqrt ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "∪": r"\cup ",
        "∈": r"\in ",
        "±": r"\pm ",
        "°": r"^{\circ}",
        "²": "^{2}",
        "³": "^{3}",
        "½": r"\frac{1}{2}",
        "（": "(",
        "）": ")",
        "，": ",",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
    }
)

_TEXT = r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|mathrm|mathbf|mathit|mathsf|rm)\s*\{([^{}]*)\}"
_WHOLE_TEXT = re.compile(rf"\s*{_TEXT}\s*[.]?\s*")
_UNIT_WORDS = (
    r"(?:square |cubic |sq\.? |cu\.? )?(?:degrees?|radians?|rad|dollars?|cents?|euros?|pounds?|inch(?:es)?|in"
    r"|feet|foot|ft|yards?|miles?|mph|(?:kilo|centi|milli)?(?:met(?:er|re)s?|grams?|lit(?:er|re)s?)|[kcm]m|kg"
    r"|hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|units?|points?|people|students?"
    r"|ways?|times)(?:\s?(?:per|/)\s?[a-z]+)?(?:\s?\^?\s?\{?[23]\}?)?"
)
_TRAILING_UNIT = re.compile(
    rf"(?:(?<=[\d}})])(?:(?:\s*/?\s*{_TEXT}(?:\s*\^\s*\{{?\d\}}?)?)+|\s+{_UNIT_WORDS}|\s*\^\{{\\circ\}}\s*[CF])"
    rf"|(?<=[a-zA-Z])\s*\\(?:text|mbox)\s*\{{\s[^{{}}]*\}}(?:\s*\^\s*\{{?\d\}}?)?)[\s.]*$"
)
_NOT_A_UNIT = re.compile(r"\\\w+\s*\{\s*(?:[ie]|,?\s*(?:or|and)\s*,?)\s*\}")

_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"\\(?:left|right)(?![a-zA-Z])\s*\.?", ""),
        (r"\\(?:[bB]igg?[lrm]?|middle|displaystyle|textstyle|limits|nolimits)(?![a-zA-Z])", ""),
        (r"(?<!\\)\\[()\[\]]|\\\$|\$|\\pounds|€|£", " "),
        (r"(?<=\d)\s*(?:\{,\}|,?\s*(?<!\\)\\!\s*,?|(?<!\\)\\,)\s*(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\[,;:!> ]|~|\\q?quad(?![a-zA-Z])", " "),
        (r"\\(?:text|mbox|mathrm)\s*\{\s*,?\s*(?:or|and)\s*,?\s*\}|(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])", ","),
        (r"(?:,\s*)+,", ","),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])", r"^{\\circ}"),
        (r"\\?%|(?:\\text\s*\{\s*)?(?<![a-zA-Z])percent(?![a-zA-Z])(?:\s*\})?", r"\\%"),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
        (r"<=|\\leq(?:slant)?(?![a-zA-Z])", r"\\le "),
        (r">=|\\geq(?:slant)?(?![a-zA-Z])", r"\\ge "),
        (r"!=|\\neq(?![a-zA-Z])", r"\\ne "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\(?:times|ast)(?![a-zA-Z])|(?<!\*)\*(?!\*)", r"\\cdot "),
        (r"\*\*", "^"),
        (r"\\div(?![a-zA-Z])", "/"),
        (r"\\(?:lbrace)(?![a-zA-Z])", r"\\{"),
        (r"\\(?:rbrace)(?![a-zA-Z])", r"\\}"),
        (r"\\langle(?![a-zA-Z])", "("),
        (r"\\rangle(?![a-zA-Z])", ")"),
        (r"\\(?:emptyset|varnothing)(?![a-zA-Z])|\\\{\s*\\\}", r"\\emptyset "),
        (r"(?<![a-zA-Z\\])(?:infinity|infty|inf|oo)(?![a-zA-Z])", r"\\infty "),
        (r"\+\s*\\infty", r"\\infty"),
        (r"(?<![a-zA-Z\\])(sqrt|pi|sin|cos|tan|arcsin|arccos|arctan|ln|log)(?![a-zA-Z])", r"\\\1 "),
        (r"(?<![\d])\.(?=\d)", "0."),
    ]
]

_GROUPED_THOUSANDS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_MAX_LENGTH = 1000  # characters; longer text is no final answer and is left as it is
_MAX_DEPTH = 50  # nested brackets, likewise
_ARGUMENTS = {r"\frac": 2, r"\binom": 2, r"\sqrt": 1, r"\mathbb": 1, "^": 1, "_": 1}


def normal_form(latex: str) -> str:
    r"""Returns the normal form of an answer.

    Examples: `$\dfrac12$` and `1 / 2` differ (`\frac{1}{2}`, `1/2`: mathematics is not done here), but
    `\left( 3,\tfrac {\pi}2 \right)` becomes `(3,\frac{\pi}{2})`, `\$32,\!348.` becomes `32348` and
    `864 \mbox{ inches}^2` becomes `864`. A wholly textual answer becomes `\text{...}` in lower case.
    """
    if latex.isascii() and latex.isdigit():
        return latex
    if len(latex) > _MAX_LENGTH or depth(tokenize(latex)) > _MAX_DEPTH:
        return latex.strip()
    boxed = last_box(latex)
    text = (latex if boxed is None else boxed).translate(_UNICODE).strip()
    text = re.sub(r"^\$+|\$+$|^\\[(\[]|\\[)\]]$", "", text).strip()
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)  # `\\frac`: escaped once too often
    words = _WHOLE_TEXT.fullmatch(text)
    if words and re.search(r"[a-zA-Z]", words[1]):
        return textual(words[1])
    if words:
        text = words[1]
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = _drop_unit(text.strip().rstrip(".,;: "))
    if _GROUPED_THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    text = re.sub(_TEXT, r" \1 ", text)
    tokens = _drop_doubled_parentheses(_brace_arguments(tokenize(text)))
    return join(_drop_outer_brackets(tokens)).strip()


def textual(words: str) -> str:
    r"""Returns the normal form of words: `\text{...}` with lower-case letters and digits only (`(C)` is `C`)."""
    letters = re.findall(r"\w", re.sub(r"\\[a-zA-Z]+", "", words).casefold())
    return rf"\text{{{''.join(letters)}}}"


def _drop_unit(text: str) -> str:
    unit = _TRAILING_UNIT.search(text)
    if unit and not _NOT_A_UNIT.fullmatch(unit[0].strip()):
        text = text[: unit.start()]
    return text.strip().rstrip(".")


def _drop_outer_brackets(tokens: list[str]) -> list[str]:
    """Drops braces and parentheses that enclose one whole value."""
    while tokens and tokens[0] in ("{", "(") and closing(tokens, 0) == len(tokens) - 1:
        inner = tokens[1:-1]
        is_point = tokens[0] == "(" and split_top_level(inner, frozenset([",", ";"]))[1]
        if is_point or tokens[-1] not in ("}", ")"):
            break
        tokens = inner
    return tokens


def _drop_doubled_parentheses(tokens: list[str]) -> list[str]:
    """Writes `((x))` as `(x)`: nested parentheses cost the parser quadratic time."""
    matching = {i: closing(tokens, i) for i, token in enumerate(tokens) if token == "("}
    dropped = set()
    for i, end in matching.items():
        inner_end = matching.get(i + 1)
        if inner_end is not None and inner_end + 1 == end and tokens[end] == tokens[inner_end] == ")":
            dropped |= {i, end}
    return [token for i, token in enumerate(tokens) if i not in dropped]


def _brace_arguments(tokens: list[str]) -> list[str]:
    r"""Puts braces around the arguments of `\frac`, `\binom`, `\sqrt`, `^` and `_`.

    TeX takes one digit where people mean the number: `2^2023` is read as a person writes it, `\frac12` as TeX does.
    """
    tokens = list(tokens)
    out: list[str] = []
    i = 0
    while i < len(tokens):
        piece, i = _command(tokens, i)
        out.extend(piece)
    return out


def _command(tokens: list[str], i: int) -> tuple[list[str], int]:
    """Returns the token at `i` with its braced arguments, and the index after them."""
    name = tokens[i]
    out = [name]
    i += 1
    if name == r"\sqrt" and i < len(tokens) and tokens[i] == "[":
        end = closing(tokens, i)
        if end is not None:
            out += tokens[i : end + 1]
            i = end + 1
    for _ in range(_ARGUMENTS.get(name, 0)):
        group, i = _argument(tokens, i, name)
        out += ["{", *group, "}"]
    return out, i


def _argument(tokens: list[str], i: int, name: str) -> tuple[list[str], int]:
    """Returns the argument at `i` without its braces, and the index after it; splits a digit run in place."""
    while i < len(tokens) and tokens[i] == " ":
        i += 1
    if i >= len(tokens) or tokens[i] in "^_":
        return [], i
    token = tokens[i]
    if token == "{" or (token == "(" and name in (r"\sqrt", "^")):
        end = closing(tokens, i)
        end = len(tokens) if end is None else end
        return _brace_arguments(tokens[i + 1 : end]), end + 1
    if token.isdigit() and len(token) > 1 and name in (r"\frac", r"\binom"):
        tokens[i] = token[1:]
        return [token[0]], i
    if token in "+-" and name == "^" and i + 1 < len(tokens):
        return tokens[i : i + 2], i + 2
    return _command(tokens, i)
