"""Values of expressions at sample points, with all the digits that it takes to tell them apart."""

import contextlib
import functools
import random
from collections.abc import Iterator
from typing import Any

from phi4r.verifiers.algebra.trees import TooLarge, bits, parse_tree

_DIGITS = 40  # of every value, beyond the digits before its decimal point
_MAX_DIGITS = 20_000


@functools.lru_cache(maxsize=4096)
def symbols_of(latex: str) -> frozenset[str]:
    """Returns the names of the symbols in an expression; empty where it cannot be read."""
    tree = parse_tree(latex)
    return frozenset() if tree is None else frozenset(symbol.name for symbol in tree.free_symbols)


def values(latex: str, symbols: frozenset[str]) -> Iterator[Any | None]:
    """Yields the values at the sample points of `symbols`: mpmath complex numbers, None where there is none.

    Without symbols there is one point. Each value is computed when it is asked for, and remembered.
    """
    return (_value(latex, symbols, i) for i in range(len(_points(symbols))))


@functools.lru_cache(maxsize=1 << 15)
def _value(latex: str, symbols: frozenset[str], index: int) -> Any | None:
    tree = parse_tree(latex)
    if tree is None:
        return None
    point = _points(symbols)[index]
    return _evaluate(tree.xreplace({symbol: point[symbol.name] for symbol in tree.free_symbols}))


@functools.lru_cache(maxsize=256)
def _points(symbols: frozenset[str]) -> tuple[dict[str, Any], ...]:
    """Returns the sample points: reals below and above one, small integers, and one negative symbol at a time.

    Two negative symbols at once would part the square root of ab from the product of the roots.
    """
    import sympy

    if not symbols:
        return ({},)
    names = sorted(symbols)

    below_one = [{n: sympy.Rational(_draw(i, n, 5, 63), 64) for n in names} for i in range(3)]
    above_one = [{n: sympy.Rational(_draw(i, n, 65, 1000), 64) for n in names} for i in range(2)]
    integers = [{n: sympy.Integer(_draw(i, n, 2, 15)) for n in names} for i in range(5)]
    negative = [{**above_one[0], n: -above_one[0][n]} for n in names]
    return tuple(below_one + above_one + integers + negative)


def _draw(point: int, name: str, low: int, high: int) -> int:
    """Returns a number that depends on the point and the name only, so that all expressions meet the same values."""
    return random.Random(f"{point} {name}").randint(low, high)


def _evaluate(tree) -> Any | None:
    """Returns the value as an mpmath complex number with `_DIGITS` digits after the point, or None."""
    import mpmath
    import sympy

    try:
        num_cancelling = _num_cancelling(tree)
        rough = _finely(tree, 15, num_cancelling)
        if not rough.is_number or rough.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
            return None
        digits = _DIGITS + max(0, *(_num_digits(part) for part in rough.as_real_imag()))
        if digits > _MAX_DIGITS:
            return None
        value = _finely(tree, digits, num_cancelling)
    except (TooLarge, TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError, RecursionError):
        return None
    with mpmath.workdps(digits):
        parts = [part._mpf_ if part.is_Float else int(part) for part in value.as_real_imag()]
        return mpmath.mpc(*(mpmath.mpf(part) for part in parts))


def _finely(tree, digits: int, num_cancelling: int):
    """Returns the value with so many correct digits; 0 where `num_cancelling` further ones do not tell it from zero.

    A sum inside another expression is given precision in proportion to the digits asked for, hence the second try.
    """
    import sympy
    from sympy.core.evalf import PrecisionExhausted

    for extra in (0, num_cancelling):
        with contextlib.suppress(PrecisionExhausted):
            return tree.evalf(digits + extra, maxn=digits + extra + num_cancelling, strict=True)
    return sympy.Integer(0)


def _num_cancelling(tree) -> int:
    """Returns how many digits may cancel in a sum within `tree`: its smallest terms are not smaller than 2^-bits."""
    return 50 + int(0.31 * bits(tree))


def _num_digits(part) -> int:
    """Returns how many digits a real number has before its decimal point."""
    if not part.is_Float or part == 0:
        return 0
    _, _, exponent, bit_count = part._mpf_
    return max(0, round((exponent + bit_count) * 0.30103) + 1)


def vanishes(gold_tree, answer_tree) -> bool:
    """Whether the difference of two close numbers is zero in all its digits: 2/3 is not 2/3 + 4^-2013."""
    import sympy

    difference = sympy.Add(gold_tree, sympy.Mul(-1, answer_tree, evaluate=False), evaluate=False)
    return _finely(difference, 2, _num_cancelling(difference)) == 0
