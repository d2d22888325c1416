r"""Equality of two expressions, by their values at sample points.

`simplify` is not asked: it may take for ever, and it is not needed, for two short expressions that agree to 30 digits
at several points are the same (Schwartz-Zippel). Nothing here has a time limit: see `pool`.
"""

import re
from typing import Any

from phi4r.verifiers.algebra.numerics import symbols_of, values, vanishes
from phi4r.verifiers.algebra.trees import parse_tree

_TOLERANCE = 1e-30
_RATIO_DIGITS = 40
_MIN_POINTS = 3  # points at which both expressions must have a value

_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_DEGREES_OF_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\^\{\\circ\}")
_BARE_LOG = re.compile(r"\\log(?![a-zA-Z_])")

_TYPICAL = (
    r"\frac{1+\sqrt{5}}{2}",
    r"\frac{n(n+1)(2n+1)}{6}",
    r"2^{n+1}-2(n+1)",
    r"\sqrt[3]{\frac{4}{3}}",
    r"1/\sqrt{3}",
    r"a_{n}+b^{2}",
    r"\frac{3\pi}{4}-2",
    r"|x-1|",
    r"\log_{2}{3}+\ln(2)",
    r"(a+5)(b+2)",
    r"n!\binom{n}{k}",
    r"-2+7i",
    r"2\sin x",
    r"e^{x}",
)


def same_expression(gold: str, answer: str) -> bool:
    r"""Whether two expressions in normal form are equal; false where one of them cannot be read.

    `\log` without a base is read with base 10 and with base e on both sides, `30^\circ` as 30 and, against an
    expression without degrees, as pi/6 as well.
    """
    return any(
        _equal(gold_reading, answer_reading)
        for gold_reading, answer_reading in dict.fromkeys(
            (convention(gold), convention(answer)) for convention in _conventions(gold, answer)
        )
    )


def difference(left: str, right: str) -> str:
    """Returns `left - right` as LaTeX."""
    return rf"({left})-({right})"


def proportional(gold: str, answer: str, *, positive: bool) -> bool:
    """Whether `answer` is a constant multiple of `gold` other than zero (`positive`: above zero)."""
    import mpmath

    symbols = symbols_of(gold) | symbols_of(answer)
    ratios = []
    with mpmath.workdps(_RATIO_DIGITS):
        for a, b in zip(values(gold, symbols), values(answer, symbols), strict=True):
            if a is not None and b is not None and a != 0 and b != 0:
                ratios.append(b / a)
        constant = len(ratios) >= _MIN_POINTS and all(_close(ratio, ratios[0]) for ratio in ratios)
        return constant and (not positive or ratios[0].real > 0)


def real_value(latex: str) -> Any | None:
    """Returns the value of an expression without symbols as an mpmath real, or None."""
    if parse_tree(latex) is None or symbols_of(latex):
        return None
    (value,) = values(latex, frozenset())
    return value.real if value is not None and value.imag == 0 else None


def warm_up() -> None:
    """Imports the parser and fills its prediction tables with typical answers."""
    for latex in _TYPICAL:
        same_expression(latex, latex + "+0")


def _conventions(gold: str, answer: str):
    """Yields functions that rewrite an expression by one convention for logarithms and degrees."""
    both = gold + " " + answer
    degrees = [_degrees_as_radians] if _TRIGONOMETRIC.search(both) else [_degrees_as_numbers]
    if degrees == [_degrees_as_numbers] and (r"\circ" in gold) != (r"\circ" in answer):
        degrees.append(_degrees_as_radians)
    logs = [str, _log_as_natural] if _BARE_LOG.search(both) else [str]
    for degree in degrees:
        for log in logs:
            yield lambda latex, degree=degree, log=log: log(degree(latex))


def _degrees_as_numbers(latex: str) -> str:
    return latex.replace(r"^{\circ}", "")


def _degrees_as_radians(latex: str) -> str:
    latex = _DEGREES_OF_NUMBER.sub(r"\\frac{\1\\pi}{180}", latex)
    return latex.replace(r"^{\circ}", r"\cdot\frac{\pi}{180}")


def _log_as_natural(latex: str) -> str:
    return _BARE_LOG.sub(r"\\ln", latex)


def _equal(gold: str, answer: str) -> bool:
    gold_tree, answer_tree = parse_tree(gold), parse_tree(answer)
    if gold_tree is None or answer_tree is None:
        return False
    if gold_tree == answer_tree:
        return True
    symbols = symbols_of(gold) | symbols_of(answer)
    if not symbols:
        return bool(_agree(gold, answer, symbols, real=False)) and vanishes(gold_tree, answer_tree)
    real = not _is_complex(gold_tree) and not _is_complex(answer_tree)
    agreement = _agree(gold, answer, symbols, real=real)
    if agreement is None and real:  # the domain holds no sample point: compare the complex continuations
        agreement = _agree(gold, answer, symbols, real=False)
    return bool(agreement)


def _agree(gold: str, answer: str, symbols: frozenset[str], *, real: bool) -> bool | None:
    """Whether the values agree wherever both exist; None if that is at too few points to tell.

    Args:
      gold: an expression.
      answer: another.
      symbols: those of both.
      real: whether points where a value is not real are left out, as outside the domain.
    """
    num_compared = 0
    for a, b in zip(values(gold, symbols), values(answer, symbols), strict=True):
        if a is None or b is None or (real and (a.imag != 0 or b.imag != 0)):
            continue
        if not _close(a, b):
            return False
        num_compared += 1
    return True if num_compared >= (_MIN_POINTS if symbols else 1) else None


def _close(a, b) -> bool:
    """Whether two values agree: absolutely where they are large, relatively where they are small."""
    return abs(a - b) <= _TOLERANCE * min(1, max(abs(a), abs(b)))


def _is_complex(tree) -> bool:
    import sympy

    return tree.has(sympy.I)
