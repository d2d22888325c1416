r"""From LaTeX to an unevaluated sympy tree whose size is bounded before anything is computed.

The parser is latex2sympy2_extended's, told to evaluate nothing and to keep decimals exact; sympy is imported on first
use (0.4 s). Model text goes through a grammar only, never through `eval` or `parse_expr`.
"""

import functools
import math
import re
from typing import Any

SYMBOL_BITS = 4  # symbols stand for numbers between 2^-4 and 2^4
_MAX_BITS = 1 << 16  # of any number that is evaluated: 20 thousand digits
_MAX_NESTED_FUNCTIONS = 4  # six logarithms of each other take minutes to evaluate with certain digits
_MAX_CHOSEN = 1000  # k of binomial(x, k), a product of k factors unless x is a whole number

_MIXED = re.compile(r"(?<=\d)\\frac\{(\d+)\}\{(\d+)\}")
_JUXTAPOSED = re.compile(r"(?<=\d)(?=\()|(?<=\))(?=[\d(]|\\frac)")
_POWER_OF_FACTORIAL = re.compile(r"(\d+|[a-zA-Z])!(?=\^)")


class TooLarge(Exception):
    """An expression whose evaluation would take too many bits, or too long."""


@functools.lru_cache(maxsize=4096)
def parse_tree(latex: str) -> Any | None:
    """Returns the unevaluated sympy tree of an expression, or None where it cannot be read or is too large."""
    import sympy
    from sympy.core.function import AppliedUndef

    text = _MIXED.sub(_separate_improper, latex)
    text = _POWER_OF_FACTORIAL.sub(r"(\1!)", text)
    text = _JUXTAPOSED.sub(r"\\cdot ", text)
    try:
        tree = _parser()().parse(text)
        if not isinstance(tree, sympy.Expr) or tree.has(sympy.nan, sympy.zoo):
            return None
        bits(tree)
        if _nested_functions(tree) > _MAX_NESTED_FUNCTIONS:
            return None
        names = {call: sympy.Symbol(str(call)) for call in tree.atoms(AppliedUndef)}  # f(x): an unknown of its own
        return tree.xreplace({**names, sympy.Symbol("i"): sympy.I})
    except MemoryError:
        raise
    except Exception:  # the parser raises bare exceptions of many kinds on broken LaTeX
        return None


def _nested_functions(tree) -> int:
    """Returns how many functions are applied to each other, sin(log(x)) being 2."""
    import sympy

    deepest = max(map(_nested_functions, tree.args), default=0)
    return deepest + isinstance(tree, sympy.Function)


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


def bits(tree) -> float:
    """Returns a bound on |log2| of the absolute value at sample points; raises TooLarge beyond `_MAX_BITS`.

    Sums are bounded from above only; what cancels is a matter of precision, not of size.
    """
    import sympy

    if isinstance(tree, sympy.Rational):
        bound = math.log2(max(abs(tree.p), 1)) + math.log2(tree.q)
    elif isinstance(tree, sympy.Symbol):
        bound = SYMBOL_BITS
    else:
        bound = _bits_of_function(tree, [bits(argument) for argument in tree.args])
    if bound > _MAX_BITS:
        raise TooLarge
    return bound


def _bits_of_function(tree, arguments: list[float]) -> float:
    """Returns the bound for a node from those of its arguments."""
    import sympy

    if isinstance(tree, sympy.Add):
        return max(arguments) + len(arguments)
    if isinstance(tree, sympy.Pow):
        return arguments[0] * _magnitude(tree.exp, arguments[1])
    if isinstance(tree, sympy.binomial):
        if not tree.args[0].is_Integer and _magnitude(tree.args[1], arguments[1]) > _MAX_CHOSEN:
            raise TooLarge
        return _magnitude(tree.args[0], arguments[0])  # C(n, k) < 2^n
    if isinstance(tree, sympy.factorial | sympy.gamma):
        return _magnitude(tree.args[0], arguments[0]) * (arguments[0] + 1)
    if isinstance(tree, sympy.exp | sympy.sinh | sympy.cosh):
        return 1.5 * _magnitude(tree.args[0], arguments[0])
    return sum(arguments) + len(arguments) + 1


def _magnitude(tree, num_bits: float) -> float:
    """Returns the absolute value of a number (whose bits are known to be few), else the bound 2^bits."""
    if num_bits > 64:
        raise TooLarge
    if tree.is_number:
        return float(abs(tree.evalf(15)))
    return 2.0**num_bits
