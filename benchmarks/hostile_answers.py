"""Answers that are made to hurt whoever judges them, drawn from a seed, family by family."""

import random
from collections.abc import Callable, Mapping

MEGABYTE = 1 << 20
_COMMANDS = (
    "frac",
    "sqrt",
    "left",
    "right",
    "begin{pmatrix}",
    "end{cases}",
    "binom",
    "text",
    "sum",
    "cup",
    "pm",
    "over",
)
_FUNCTIONS = ("sin", "cos", "tan", "ln", "exp", "arctan", "log", "Gamma", "zeta")
_CONTROL = "\x00\x01\x07\x08\x0b\x0c\x1b\x7f\x85\u200b\u200f\u202e\u2028\u2066\ufeff\ud800\udfff\U0010ffff"


def _number(rng: random.Random, low: int = 2, high: int = 12) -> str:
    """Returns a number with a random number of digits."""
    return str(rng.randrange(10 ** rng.randint(low, high)) + 2)


def deep_nesting(rng: random.Random) -> str:
    """Brackets within brackets, closed or not, below the caps and far beyond."""
    opening, closing = rng.choice(
        [
            ("(", ")"),
            ("{", "}"),
            (r"\sqrt{", "}"),
            (r"\frac{1}{1+", "}"),
            ("[", "]"),
            (r"\{", r"\}"),
            ("(x+", ")^2"),
            ("|", "|"),
            (r"\left(", r"\right)"),
            ("-(", ")"),
            (r"\text{", "}"),
            ("x_{", "}"),
            (r"\boxed{", "}"),
        ]
    )
    depth = rng.choice([12, 40, 49, 200, 5000])
    return opening * depth + rng.choice(["1", "x", r"\pi"]) + closing * rng.choice([depth, depth - 1, depth, 0])


def towers(rng: random.Random) -> str:
    """Powers of powers, and powers that are just small enough to pass."""
    base, top = _number(rng, 1, 4), _number(rng, 1, 6)
    return rng.choice(
        [
            f"{base}^{{{base}^{{{base}^{{{top}}}}}}}",
            f"{base}^{base}^{base}^{top}",
            f"({base}^{{99}})^{{{top}}}",
            f"{base}^{{x^{{{top}}}}}",
            rf"e^{{e^{{{top}}}}}",
            f"x^{{{top}}}+(x+1)^{{{top}}}",
            rf"10^{{10^{{{top}}}}}",
            rf"\left(1+\frac{{1}}{{{base}}}\right)^{{{top}}}",
            rf"{base}^{{-{top}}}",
            rf"\sqrt[{top}]{{{base}}}",
        ]
    )


def factorials(rng: random.Random) -> str:
    """Factorials, binomial coefficients and gamma functions."""
    n, k = _number(rng, 1, 9), _number(rng, 1, 8)
    return rng.choice(
        [
            f"{n}!",
            f"(({n}!)!)!",
            f"{n}!!!!",
            rf"\binom{{{n}}}{{{k}}}",
            rf"\frac{{{n}!}}{{{k}!}}",
            f"(x^{{{k}}})!",
            rf"\Gamma({n})",
            rf"\binom{{x}}{{{k}}}",
            rf"\binom{{\binom{{{n}}}{{{k}}}}}{{2}}",
            rf"\prod_{{i=1}}^{{{n}}} i",
        ]
    )


def huge_numbers(rng: random.Random) -> str:
    """Numbers of many digits, of huge exponents, and ratios of them."""
    digits = "".join(rng.choices("0123456789", k=rng.choice([49, 50, 51, 300, 100_000])))
    return rng.choice(
        [
            digits,
            f"0.{digits}",
            f"1e{digits[:9]}",
            rf"1.5\cdot 10^{{{digits[:12]}}}",
            rf"\frac{{{digits}}}{{{digits[1:]}}}",
            f"-{digits}%",
            ",".join([digits[:3]] * 90),
            f"{digits[:40]}_{{{digits[:2]}}}",
            rf"\sqrt{{{digits[:50]}}}",
        ]
    )


def broken_latex(rng: random.Random) -> str:
    """Commands, brackets and signs in any order."""
    pieces = [f"\\{rng.choice(_COMMANDS)}", "{", "}", "(", ")", "[", "]", "^", "_", "&", r"\\", "$", "#", "~", "=", "<"]
    pieces += [",", "1", "x", "+", "-", "/", "!", "|", "%", "'", r"\ ", r"\%", "7"]
    return "".join(rng.choices(pieces, k=rng.choice([5, 20, 90, 290, 3000])))


def control_characters(rng: random.Random) -> str:
    """Characters that are not for reading, in and around numbers; halves of characters too."""
    text = list(rng.choice([r"\frac{1}{2}", "42", "x^2+1", r"\sqrt{3}"]))
    for _ in range(rng.choice([1, 5, 500])):
        text.insert(rng.randint(0, len(text)), rng.choice(_CONTROL))
    return "".join(text)


def never_evaluated(rng: random.Random) -> str:
    """Integrals, sums, products and limits, one within the other."""
    depth = rng.randint(1, 8)
    operator = rng.choice([r"\int_0^1 ", rf"\sum_{{k=1}}^{{{_number(rng, 3, 15)}}} ", r"\prod_{p} ", r"\lim_{x\to 0} "])
    return operator * depth + rng.choice(["x^{x^{x}}", r"\frac{1}{k^2}", r"\sin(x)/x"]) + " dx" * depth


def slow_functions(rng: random.Random) -> str:
    """Functions at points where many digits are lost, or within each other."""
    inner = rng.choice([rf"10^{{{_number(rng, 1, 5)}}}", r"\pi\cdot 10^{50}", "x^{100}", r"\frac{1}{x-x}", "i"])
    for function in rng.choices(_FUNCTIONS, k=rng.choice([1, 3, 8, 20])):
        inner = rf"\{function}({inner})"
    return inner


def long_sums(rng: random.Random) -> str:
    """As many terms as a screen lets through, and lists of as many items."""
    join = rng.choice(["+", "-", r"\cdot ", ",", ";", "=", "<", r"\cup ", r" \text{ or } ", "/", r"\pm ", "&"])
    term = rng.choice([r"\sqrt{2}", "x", "1", r"\frac12", "(1,2)", "a_1", r"\{1\}", "x=1"])
    return join.join([term] * rng.choice([10, 40, 90, 400]))


def code(rng: random.Random) -> str:
    """What an evaluator would run."""
    return rng.choice(
        [
            "__import__('os').system('touch /tmp/owned')",
            "exec(chr(97)*9**9)",
            "().__class__.__bases__[0].__subclasses__()",
            "lambda: 9**9**9",
            "[0]*10**10",
            "open('/etc/passwd').read()",
            "x if x else factorial(10**9)",
            "{{7*7}}",
        ]
    ) + rng.choice(["", "#", " + 1", ")" * 20])


def megabytes(rng: random.Random) -> str:
    """A million characters of one short piece."""
    piece = rng.choice(
        [
            "(",
            "{",
            "\\",
            "^{",
            r"\frac",
            "answer: ",
            "final answer is ",
            r"\boxed{",
            "9",
            " ",
            "\n",
            "$",
            "<think>",
            "*",
            "</think>",
            "\x00",
            "\ud800",
            r"\text{ }",
            "1,",
            "=",
            r"\$",
            "x",
            "%",
            ".",
            "answer" + " " * 50,
            "-",
            "|",
        ]
    )
    return piece * (MEGABYTE // len(piece))


FAMILIES: Mapping[str, Callable[[random.Random], str]] = {
    family.__name__: family
    for family in (
        deep_nesting, towers, factorials, huge_numbers, broken_latex, control_characters, never_evaluated,
        slow_functions, long_sums, code, megabytes,
    )
}  # fmt: skip


def hostile_answers(num: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """Returns `num` pairs (name of the family, answer), the families in turn."""
    rng = random.Random(seed)
    names = list(FAMILIES)
    return [(names[i % len(names)], FAMILIES[names[i % len(names)]](rng)) for i in range(num)]


def response(answer: str, index: int) -> str:
    """Returns a response that gives the answer: in a box where its brackets leave one, else announced."""
    return f"</think>The final answer is {answer}" if index % 2 else rf"</think>So it is \boxed{{{answer}}}."
