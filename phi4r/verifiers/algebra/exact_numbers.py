r"""Exact numbers in normal form: integers, decimals, fractions, mixed numbers, powers of ten, per cent.

They are the great majority of answers, and they are read here by patterns of bounded size, without any parser.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 50  # longer numbers are refused before conversion
_MAX_POWER_OF_TEN = 100
_MIN_ROUNDED_DECIMALS = 3  # a reference with fewer decimals (0.5, 3.21) is taken as exact, not as rounded

_N = rf"\d{{1,{MAX_DIGITS}}}"
_FRACTION = rf"(?:\\frac\{{(?P<p>-?{_N})\}}\{{(?P<q>-?{_N})\}}|(?P<p_>{_N})/(?P<q_>{_N}))"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)(?:(?P<mixed>{_N})(?: |(?=\\frac\{{\d)))?{_FRACTION}"
    rf"|(?P<decimal>[+-]?{_N}(?:\.\d{{0,{MAX_DIGITS}}})?)(?:(?:[eE](?P<e>[+-]?\d{{1,3}}))"
    rf"|\\cdot10\^\{{(?P<ten>-?\d{{1,3}})\}})?"
)


@dataclass(frozen=True)
class ExactNumber:
    """A rational number as it was written.

    Attributes:
      value: the number, for `50%` the 50.
      percent: whether a percent sign follows.
      decimals: digits after the decimal point; None if it was not written as a decimal.
    """

    value: Fraction
    percent: bool = False
    decimals: int | None = None


def exact_number(normal: str) -> ExactNumber | None:
    """Reads a normal form as an exact number, or returns None. A trailing degree sign is dropped."""
    text = normal.removesuffix(r"^{\circ}")
    percent = text.endswith(r"\%")
    match = _NUMBER.fullmatch(text.removesuffix(r"\%"))
    if match is None:
        return None
    if match["decimal"] is None:
        value = _fraction(match)
        return None if value is None else ExactNumber(value, percent)
    power = int(match["e"] or match["ten"] or 0)
    if abs(power) > _MAX_POWER_OF_TEN:
        return None
    digits = match["decimal"].partition(".")[2]
    value = Fraction(match["decimal"].rstrip(".")) * Fraction(10) ** power
    return ExactNumber(value, percent, decimals=len(digits) if digits else None)


def _fraction(match: re.Match[str]) -> Fraction | None:
    numerator, denominator = int(match["p"] or match["p_"]), int(match["q"] or match["q_"])
    if denominator == 0:
        return None
    value = Fraction(numerator, denominator)
    if match["mixed"] is not None:
        if not 0 <= value < 1:
            return None  # `2\frac{5}{3}` is a product, or a slip
        value += int(match["mixed"])
    return -value if match["sign"] == "-" else value


def same_number(gold: ExactNumber, answer: ExactNumber) -> bool:
    """Whether two numbers are equal; `50%` equals both 0.5 and, where a percentage was asked for, 50."""
    scales = (Fraction(1), Fraction(1, 100)) if gold.percent != answer.percent else (Fraction(1),)
    percent, plain = (answer, gold) if answer.percent else (gold, answer)
    return any(abs(percent.value * scale - plain.value) <= rounding_allowance(gold) for scale in scales)


def rounding_allowance(gold: ExactNumber) -> Fraction:
    """Returns how far an answer may lie from the reference: half a unit of its last place if it was rounded, else 0.

    A reference of at least three decimals counts as rounded, so that 1/3 answers 0.333333; nothing else is
    approximate: 0.333333 does not answer 1/3.
    """
    if gold.decimals is None or gold.decimals < _MIN_ROUNDED_DECIMALS:
        return Fraction(0)
    return Fraction(1, 2 * 10**gold.decimals)


_BASED = re.compile(r"(\d[0-9A-Z]{0,49})_\{(\d{1,2})\}")


def based_number(normal: str) -> tuple[str, int] | None:
    r"""Reads `52_{8}` as digits and base, or returns None."""
    match = _BASED.fullmatch(normal)
    if match is None or not 2 <= int(match[2]) <= 36:
        return None
    try:
        int(match[1], int(match[2]))
    except ValueError:  # a digit that the base lacks
        return None
    return match[1].lstrip("0") or "0", int(match[2])
