r"""The cheap screen: what is refused before any parser sees it.

`9^{9^{9^{9}}}`, `999999999!`, `\binom{10^9}{10^8}`, thousands of parentheses and nested integrals each keep a
computer algebra system busy for its whole time limit. A final answer needs none of this, so text beyond these caps
is compared as a string and otherwise counts as wrong. The size of what is left is bounded a second time on the
parsed, unevaluated tree (`expressions`), and a worker's deadline catches the rest.
"""

import re

from phi4r.verifiers.algebra.latex import closing, depth, tokenize

MAX_LENGTH = 300  # characters
MAX_DEPTH = 12  # nested brackets; references of public sets have 5, and the parser takes a second for 20
MAX_DIGITS = 50  # of one number
MAX_EXPONENT = 100_000
MAX_FACTORIAL = 10_000
MAX_BINOMIAL = 10_000
MAX_TOWER = 2  # exponents within exponents: 2^{n^2}

_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ud800-\udfff]"
)
_LONG_NUMBER = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")
_UNEVALUATED = re.compile(
    r"\\(?:i{0,3}nt|oint|sum|prod|lim|limsup|liminf|det|gcd|lcm|operatorname|xrightarrow)(?![a-z])|\\frac\s*\{\s*d\s*\}"
)
_EXPONENT = re.compile(r"\^\s*\{?\s*[+-]?\s*(\d+)")
_FACTORIAL = re.compile(r"(\d+)\s*[})]*\s*!|\\Gamma\s*[({]*\s*(\d+)")
_BINOMIAL = re.compile(r"\\[dt]?binom\s*\{?\s*(\d+)(?:\s*\}?\s*\{?\s*(\d+))?")


def refusal(latex: str) -> str | None:
    """Returns why an answer is not to be parsed, in a few words, or None if it may be."""
    if len(latex) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters"
    if _CONTROL.search(latex):
        return "control characters"
    if _LONG_NUMBER.search(latex):
        return f"a number of more than {MAX_DIGITS} digits"
    if _UNEVALUATED.search(latex):
        return "an operation that is never evaluated"
    if _above(_EXPONENT, latex, MAX_EXPONENT):
        return f"an exponent above {MAX_EXPONENT}"
    if _above(_FACTORIAL, latex, MAX_FACTORIAL):
        return f"a factorial above {MAX_FACTORIAL}"
    if _above(_BINOMIAL, latex, MAX_BINOMIAL):
        return f"a binomial coefficient above {MAX_BINOMIAL}"
    tokens = tokenize(latex)
    if depth(tokens) > MAX_DEPTH:
        return f"brackets nested more than {MAX_DEPTH} deep"
    if _tower(tokens) > MAX_TOWER:
        return "a tower of exponents"
    return None


def _above(pattern: re.Pattern[str], latex: str, limit: int) -> bool:
    """Whether any number that `pattern` captures exceeds `limit` (numbers are at most MAX_DIGITS long here)."""
    return any(int(number) > limit for match in pattern.finditer(latex) for number in match.groups() if number)


def _tower(tokens: list[str]) -> int:
    """Returns how many exponents stand within each other, `a^{b^{c}}` being 2 and `a^b^c` as well."""
    highest = 0
    ends: list[int] = []  # where each exponent that is still open ends
    for i, token in enumerate(tokens):
        while ends and i > ends[-1]:
            ends.pop()
        if token != "^":
            continue
        start = i + 1
        end = closing(tokens, start) if start < len(tokens) and tokens[start] in ("{", "(") else None
        ends.append(start + 1 if end is None else end)
        highest = max(highest, len(ends))
    return highest
