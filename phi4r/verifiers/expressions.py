r"""Equality of two expressions: parsed to unevaluated sympy trees, bounded in size, compared at sample points.

The parser is latex2sympy2_extended's, told to evaluate nothing. `simplify` is not asked: it may take for ever, and
it is not needed, for two short expressions that agree to 30 digits at several points are the same (Schwartz-Zippel).
Numbers are evaluated so finely that neighbouring integers of thousands of digits stay apart.

sympy is imported on first use only (0.4 s). Nothing here has a time limit: see `pool`.
"""

import functools
import random
import re
from typing import Any

_DIGITS = 40  # of every value, beyond the digits before its decimal point
_TOLERANCE = 1e-30
_MAX_BITS = 1 << 16  # of any number that is evaluated: 20 thousand digits
_MAX_DIGITS = 20_000
_MAX_CANCELLATION = 2_000  # digits that may cancel in a difference before it counts as zero
_SYMBOL_BITS = 4  # sample points lie below 2^4
_NUM_REAL_POINTS = 3
_NUM_INTEGER_POINTS = 5
_MIN_POINTS = 3

_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])")
_DEGREES_OF_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\^\{\\circ\}")
_PROPER_MIXED = re.compile(r"(?<=\d)\\frac\{(\d+)\}\{(\d+)\}")
_JUXTAPOSED = re.compile(r"(?<=\d)(?=\()|(?<=\))(?=[\d(]|\\frac)")
_BARE_LOG = re.compile(r"\\log(?![a-zA-Z_])")


class TooLarge(Exception):
    """An expression whose evaluation would take more than `_MAX_BITS` bits."""


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
    symbols = symbols_of(gold) | symbols_of(answer)
    ratios = []
    for a, b in zip(_values(gold, symbols), _values(answer, symbols), strict=True):
        if a is None or b is None or abs(a) < _TOLERANCE or abs(b) < _TOLERANCE:
            continue
        ratios.append(b / a)
    return (
        len(ratios) >= _MIN_POINTS
        and all(_close(ratio, ratios[0]) for ratio in ratios)
        and (not positive or ratios[0].real > 0)
    )


def real_value(latex: str) -> Any | None:
    """Returns the value of an expression without symbols as an mpmath real, or None."""
    if _tree(latex) is None or symbols_of(latex):
        return None
    (value,) = _values(latex, frozenset())
    return value.real if value is not None and value.imag == 0 else None


@functools.lru_cache(maxsize=4096)
def symbols_of(latex: str) -> frozenset[str]:
    """Returns the names of the symbols in an expression; empty where it cannot be read."""
    tree = _tree(latex)
    return frozenset() if tree is None else frozenset(symbol.name for symbol in tree.free_symbols)


def warm_up() -> None:
    """Imports the parser and fills its prediction tables with typical answers."""
    typical = [r"\frac{3\sqrt{2}}{4}", r"2^{10}-1", r"x^{2}+2xy", r"n(n+1)!", r"\binom{n}{k}\pi", r"-2+7i", r"\sin x"]
    for latex in typical:
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
    gold_tree, answer_tree = _tree(gold), _tree(answer)
    if gold_tree is None or answer_tree is None:
        return False
    if gold_tree == answer_tree:
        return True
    symbols = symbols_of(gold) | symbols_of(answer)
    complex_valued = not symbols or _is_complex(gold_tree) or _is_complex(answer_tree)
    num_compared = 0
    for a, b in zip(_values(gold, symbols), _values(answer, symbols), strict=True):
        if a is None or b is None or (not complex_valued and (a.imag != 0 or b.imag != 0)):
            continue
        if not _close(a, b):
            return False
        num_compared += 1
    return num_compared >= (_MIN_POINTS if symbols else 1)


def _close(a, b) -> bool:
    """Whether two values agree: absolutely where they are large, relatively where they are small."""
    return abs(a - b) <= _TOLERANCE * min(1, max(abs(a), abs(b)))


@functools.lru_cache(maxsize=4096)
def _tree(latex: str) -> Any | None:
    """Returns the unevaluated sympy tree of an expression, or None where it cannot be read or is too large."""
    import sympy
    from sympy.core.function import AppliedUndef

    text = _PROPER_MIXED.sub(_separate_improper, latex)
    text = _JUXTAPOSED.sub(r"\\cdot ", text)
    try:
        tree = _parser()().parse(text)
        if not isinstance(tree, sympy.Expr) or tree.has(sympy.nan, sympy.zoo):
            return None
        _bits(tree)
        names = {call: sympy.Symbol(str(call)) for call in tree.atoms(AppliedUndef)}  # f(x): an unknown of its own
        return tree.xreplace({**names, sympy.Symbol("i"): sympy.I})
    except MemoryError:
        raise
    except Exception:  # the parser raises bare exceptions of many kinds on broken LaTeX
        return None


def _separate_improper(match: re.Match[str]) -> str:
    r"""Keeps `1\frac{4}{5}` a mixed number, and makes `2\frac{4}{3}` the product that it must be."""
    return match[0] if int(match[1]) < int(match[2]) else r"\cdot " + match[0]


@functools.cache
def _parser() -> type:
    """Returns latex2sympy2_extended's converter, changed so that it evaluates nothing and keeps numbers exact."""
    import sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy

    class Converter(_Latex2Sympy):
        def __init__(self):
            super().__init__(config=ConversionConfig(lowercase_symbols=False))

        def convert_binom(self, binom):
            upper, lower = self.convert_expr(binom.upper), self.convert_expr(binom.lower)
            return sympy.binomial(upper, lower, evaluate=False)

        def parse_number(self, text):
            return sympy.Rational(text.replace(",", ""))

    return Converter


def _bits(tree) -> float:
    """Returns a bound on |log2| of the absolute value at sample points; raises TooLarge beyond `_MAX_BITS`.

    Sums are bounded from above only; what cancels is a matter of precision, not of size.
    """
    import sympy

    if isinstance(tree, sympy.Number):
        bits = tree.p.bit_length() + tree.q.bit_length() if tree.is_Rational else 1.0
    elif isinstance(tree, sympy.Symbol):
        bits = _SYMBOL_BITS
    else:
        bits = _bits_of_function(tree, [_bits(argument) for argument in tree.args])
    if bits > _MAX_BITS:
        raise TooLarge
    return bits


def _bits_of_function(tree, arguments: list[float]) -> float:
    """Returns the bound for a node from those of its arguments."""
    import sympy

    if isinstance(tree, sympy.Add):
        return max(arguments) + len(arguments)
    if isinstance(tree, sympy.Pow):
        return (arguments[0] + 1) * _magnitude(tree.exp, arguments[1])
    if isinstance(tree, sympy.factorial | sympy.gamma | sympy.binomial):
        n = _magnitude(tree.args[0], arguments[0])
        return n * (arguments[0] + 1)
    if isinstance(tree, sympy.exp | sympy.sinh | sympy.cosh):
        return 1.5 * _magnitude(tree.args[0], arguments[0])
    return sum(arguments) + len(arguments) + 1


def _magnitude(tree, bits: float) -> float:
    """Returns a bound on |tree| from its bits: exact for a number, else 2^bits."""
    if tree.is_Rational:
        return float(abs(tree))
    if bits > 64:
        raise TooLarge
    return 2.0**bits


def _is_complex(tree) -> bool:
    import sympy

    return tree.has(sympy.I)


@functools.lru_cache(maxsize=4096)
def _values(latex: str, symbols: frozenset[str]) -> tuple[Any | None, ...]:
    """Returns the values at the sample points of `symbols`, mpmath complex numbers; None where there is none.

    Without symbols there is one point.
    """
    tree = _tree(latex)
    points = _points(symbols)
    if tree is None:
        return (None,) * len(points)
    named = {symbol: symbol.name for symbol in tree.free_symbols}
    return tuple(_evaluate(tree.xreplace({s: point[name] for s, name in named.items()})) for point in points)


@functools.lru_cache(maxsize=256)
def _points(symbols: frozenset[str]) -> tuple[dict[str, Any], ...]:
    """Returns the sample points: positive reals, small integers, and one negative symbol at a time.

    The value of a symbol depends on its name and the point only, so two expressions with different symbols meet the
    same values. Two negative symbols at once would part the square root of ab from the product of the roots.
    """
    import sympy

    if not symbols:
        return ({},)
    names = sorted(symbols)

    def draw(point: int, name: str, integer: bool):
        rng = random.Random(f"{point} {name}")
        return sympy.Integer(rng.randint(2, 15)) if integer else sympy.Rational(2 * rng.randint(33, 500) + 1, 64)

    positive = [{n: draw(i, n, False) for n in names} for i in range(_NUM_REAL_POINTS)]
    integers = [{n: draw(i, n, True) for n in names} for i in range(_NUM_INTEGER_POINTS)]
    negative = [{**positive[0], n: -positive[0][n]} for n in names]
    return tuple(positive + integers + negative)


def _evaluate(tree) -> Any | None:
    """Returns the value as an mpmath complex number with `_DIGITS` digits after the point, or None."""
    import mpmath
    import sympy
    from sympy.core.evalf import PrecisionExhausted

    try:
        rough = tree.evalf(15, maxn=_MAX_CANCELLATION, strict=True)
        if not rough.is_number or rough.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
            return None
        digits = _DIGITS + max(0, *(_num_digits(part) for part in rough.as_real_imag()))
        if digits > _MAX_DIGITS:
            return None
        value = tree.evalf(digits, maxn=digits + _MAX_CANCELLATION, strict=True)
        with mpmath.workdps(digits):
            parts = [part._mpf_ if part.is_Float else int(part) for part in value.as_real_imag()]
            return mpmath.mpc(*(mpmath.mpf(part) for part in parts))
    except PrecisionExhausted:
        return mpmath.mpc(0)
    except (TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError, RecursionError):
        return None


def _num_digits(part) -> int:
    """Returns how many digits a real number has before its decimal point."""
    if not part.is_Float or part == 0:
        return 0
    _, _, exponent, bit_count = part._mpf_
    return max(0, round((exponent + bit_count) * 0.30103) + 1)
