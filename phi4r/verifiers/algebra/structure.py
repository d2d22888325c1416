r"""Takes an answer apart: lists, sets, points and intervals, unions, relations, matrices; the rest is expressions.

The outer form of an answer carries its meaning (a point is not a set, an open interval not a closed one), so it is
read here from the brackets as they stand, and only the innermost pieces go to a LaTeX parser. Works on normal
forms; needs no computer algebra; linear in the length times the depth.
"""

import re
from dataclasses import dataclass

from phi4r.verifiers.algebra.latex import closing, join, split_top_level, tokenize
from phi4r.verifiers.algebra.normal_form import textual

EQUALITY = "="
IN = r"\in"
ORDER = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}  # each order relation and its mirror image
_RELATIONS = frozenset([EQUALITY, IN, r"\ne", r"\equiv", *ORDER])
_APPROXIMATELY = frozenset([r"\approx", r"\simeq"])
_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_LETTERS = r"\([a-zA-Z](?:,[a-zA-Z])*\)"  # (x,y)
_NAME = re.compile(
    r"(?!\\(?:infty|pi|emptyset)$)"
    rf"(?:(?:\\[a-zA-Z]+(?![a-zA-Z]) ?|[a-zA-Z])+(?:_\{{\w+\}})?'*(?:{_LETTERS})?|{_LETTERS})"
)
_WORDS = re.compile(r"[A-Za-z]{4,}|(?i:yes|no|odd)")


@dataclass(frozen=True)
class Text:
    r"""Words, as `\text{...}` in normal form."""

    words: str


@dataclass(frozen=True)
class Expression:
    """A single value: LaTeX in normal form, for the parser."""

    latex: str


@dataclass(frozen=True)
class Bracketed:
    """A point, a vector or an interval: items in order between brackets as written, `(1,2]`."""

    open: str
    items: tuple["Node", ...]
    close: str


@dataclass(frozen=True)
class Collection:
    """Items without order: a set, a bare list of answers (`-2, 1`), or the two values of a plus-minus sign."""

    items: tuple["Node", ...]


@dataclass(frozen=True)
class Union:
    r"""Parts of a union of sets, without order."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Matrix:
    """Rows of entries; the kind of bracket is not kept."""

    rows: tuple[tuple["Node", ...], ...]


@dataclass(frozen=True)
class Relation:
    """A chain of terms with the relations between them: `0 < x \\le 3`."""

    terms: tuple["Node", ...]
    relations: tuple[str, ...]


Node = Text | Expression | Bracketed | Collection | Union | Matrix | Relation


def parse_structure(normal: str) -> Node:
    """Returns the outer structure of an answer in normal form."""
    if normal.startswith(r"\text{"):
        return Text(normal)
    if _WORDS.fullmatch(normal):
        return Text(textual(normal))
    tokens = tokenize(normal)
    parts, found = split_top_level(tokens, frozenset([r"\cup"]))
    if found:
        return Union(tuple(parse_structure(join(part)) for part in parts))
    parts, found = split_top_level(tokens, frozenset([",", ";"]))
    if found:
        return Collection(_flatten(parse_structure(join(part)) for part in parts))
    parts, found = split_top_level(tokens, _APPROXIMATELY)
    if found:  # `16/3 \approx 5.33` means 16/3, `x \approx 5.33` means 5.33
        exact = parts[-1] if is_name(join(parts[0])) else parts[0]
        return parse_structure(join(exact))
    parts, found = split_top_level(tokens, _RELATIONS)
    if found:
        return Relation(tuple(parse_structure(join(part)) for part in parts), tuple(found))
    return _matrix(normal) or _bracketed(tokens) or _plus_minus(normal) or Expression(normal)


def is_name(latex: str) -> bool:
    r"""Whether this names a quantity: `x`, `a_{10}`, `\theta`, `AB`, `f(x)`, `(x,y)`."""
    return bool(latex) and _NAME.fullmatch(latex) is not None


def _flatten(items) -> tuple[Node, ...]:
    """Returns the items of a list; the two values of a plus-minus sign become two items."""
    flat: list[Node] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Collection) else [item])
    return tuple(flat)


def _matrix(normal: str) -> Matrix | None:
    match = _MATRIX.fullmatch(normal)
    if match is None:
        return None
    body = tokenize(match[2])
    rows, _ = split_top_level(body, frozenset([r"\\"]))
    cells = [split_top_level(row, frozenset(["&"]))[0] for row in rows if row]
    return Matrix(tuple(tuple(parse_structure(join(cell)) for cell in row) for row in cells))


def _bracketed(tokens: list[str]) -> Node | None:
    r"""Reads `(a,b)`, `[a,b)` or `\{a,b\}`; None where the brackets only group."""
    if not tokens or tokens[0] not in ("(", "[", r"\{") or closing(tokens, 0) != len(tokens) - 1:
        return None
    inner = tokens[1:-1]
    is_set = tokens[0] == r"\{"
    if is_set and any(token in ("|", ":", r"\mid") for token in inner):
        return None  # a set-builder is compared as it is written
    parts, found = split_top_level(inner, frozenset([",", ";"]))
    if not found and not is_set:
        return None
    items = [parse_structure(join(part)) for part in parts]
    return Collection(_flatten(items)) if is_set else Bracketed(tokens[0], tuple(items), tokens[-1])


def _plus_minus(normal: str) -> Collection | None:
    r"""Reads `1 \pm \sqrt{19}` as two values; `\mp` takes the other sign."""
    if r"\pm" not in normal:
        return None
    tokens = tokenize(normal)
    signs = ({r"\pm": "+", r"\mp": "-"}, {r"\pm": "-", r"\mp": "+"})
    values = [join([sign.get(token, token) for token in tokens]).removeprefix("+") for sign in signs]
    return Collection(tuple(Expression(value) for value in values))
