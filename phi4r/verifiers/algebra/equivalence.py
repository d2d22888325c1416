r"""Whether two answers mean the same: the comparison of structures, strict about what kind of thing each is.

A point is not a set and an open interval not a closed one, but an interval is the inequality that describes it, a
one-element set is its element, `x = 5` answers 5, and a list has no order.
"""

from phi4r.verifiers.algebra import expressions
from phi4r.verifiers.algebra.exact_numbers import (
    based_number,
    exact_number,
    rounding_allowance,
    same_number,
)
from phi4r.verifiers.algebra.normal_form import textual
from phi4r.verifiers.algebra.structure import (
    EQUALITY,
    IN,
    ORDER,
    Bracketed,
    Collection,
    Expression,
    Matrix,
    Node,
    Relation,
    Text,
    Union,
    is_name,
    parse_structure,
)

_STRICT = ("<", ">")


def same_answer(gold: str, answer: str) -> bool:
    """Whether two answers in normal form are equal; runs a parser and numerics without a time limit."""
    return gold == answer or _same(parse_structure(gold), parse_structure(answer))


def _same(gold: Node, answer: Node) -> bool:
    if gold == answer:
        return True
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return _same_relation(gold, answer)
    if isinstance(gold, Text) or isinstance(answer, Text):
        return _as_text(gold) == _as_text(answer)
    if isinstance(gold, Union) != isinstance(answer, Union):
        return _same_interval(gold, answer)
    if isinstance(gold, Collection) or isinstance(answer, Collection):
        return _same_items(_items(gold), _items(answer))
    if isinstance(gold, Union) and isinstance(answer, Union):
        return _same_items(gold.parts, answer.parts)
    if isinstance(gold, Bracketed) and isinstance(answer, Bracketed):
        return (gold.open, gold.close) == (answer.open, answer.close) and _same_sequence(gold.items, answer.items)
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        return len(gold.rows) == len(answer.rows) and all(map(_same_sequence, gold.rows, answer.rows))
    if isinstance(gold, Expression) and isinstance(answer, Expression):
        return _same_value(gold.latex, answer.latex)
    return False


def _as_text(node: Node) -> str | None:
    if isinstance(node, Text):
        return node.words
    return textual(node.latex) if isinstance(node, Expression) else None


def _items(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Collection) else (node,)


def _same_sequence(gold: tuple[Node, ...], answer: tuple[Node, ...]) -> bool:
    return len(gold) == len(answer) and all(map(_same, gold, answer))


def _same_items(gold: tuple[Node, ...], answer: tuple[Node, ...]) -> bool:
    """Whether two collections hold the same items, in any order and however often each."""
    return all(any(_same(g, a) for a in answer) for g in gold) and all(any(_same(g, a) for g in gold) for a in answer)


def _same_value(gold: str, answer: str) -> bool:
    gold_number, answer_number = exact_number(gold), exact_number(answer)
    if gold_number and answer_number:
        return same_number(gold_number, answer_number)
    gold_based, answer_based = based_number(gold), based_number(answer)
    if gold_based or answer_based:
        return _same_based(gold_based, answer_based, answer)
    percent = r"\%"
    if gold.endswith(percent) != answer.endswith(percent):  # 50\% answers 50 and 0.5
        plain, share = gold.removesuffix(percent), answer.removesuffix(percent)
        scaled = (rf"({plain})/100", share) if gold.endswith(percent) else (plain, rf"({share})/100")
        return expressions.same_expression(plain, share) or expressions.same_expression(*scaled)
    gold, answer = gold.removesuffix(percent), answer.removesuffix(percent)
    if gold_number and (allowance := rounding_allowance(gold_number)):
        value = expressions.real_value(answer)
        if value is not None:
            rounded = gold_number.value
            return abs(value * rounded.denominator - rounded.numerator) <= float(allowance) * rounded.denominator
    return expressions.same_expression(gold, answer)


def _same_based(gold: tuple[str, int] | None, answer: tuple[str, int] | None, answer_latex: str) -> bool:
    """Compares numbers written in a base; to a reference in base 8, plain digits are taken as base 8 too."""
    if gold and answer:
        return int(*gold) == int(*answer)
    return gold is not None and answer_latex.isdigit() and answer_latex.lstrip("0") == gold[0]


def _same_relation(gold: Node, answer: Node) -> bool:
    r"""Compares where at least one side is a relation: a definition, an equation, an inequality."""
    gold, answer = _member(gold), _member(answer)
    if not isinstance(gold, Relation) and not isinstance(answer, Relation):
        return _same(gold, answer)
    gold_name, gold_value = _definition(gold)
    answer_name, answer_value = _definition(answer)
    if not isinstance(gold, Relation) and isinstance(answer, Relation) and set(answer.relations) == {EQUALITY}:
        return _same(gold, answer.terms[-1])  # `3 + 4 = 7` answers 7
    names_agree = not (gold_name and answer_name) or gold_name == answer_name
    plain_values = not isinstance(gold_value, Relation) and not isinstance(answer_value, Relation)
    if (gold_name or answer_name) and names_agree and plain_values:
        return _same(gold_value, answer_value)
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        return _same_chain(gold, answer) or _same_equation(gold, answer)
    return _same_interval(gold, answer)


def _member(node: Node) -> Node:
    r"""Returns the set of `x \in S`, other nodes as they are."""
    return node.terms[-1] if isinstance(node, Relation) and node.relations == (IN,) else node


def _definition(node: Node) -> tuple[str | None, Node]:
    """Returns the name and the value of `x = ... = value`; None as the name of everything else."""
    if not isinstance(node, Relation) or set(node.relations) != {EQUALITY}:
        return None, node
    name = _name(node.terms[0])
    return (None, node) if name is None else (name, node.terms[-1])


def _name(node: Node) -> str | None:
    """Returns what a node names, `x`, `AB` or `(x,y)`; None if it is no name."""
    if isinstance(node, Text):
        return node.words
    if isinstance(node, Expression):
        return node.latex if is_name(node.latex) else None
    if isinstance(node, Bracketed):
        names = [_name(item) for item in node.items]
        return None if None in names else ",".join(names)
    return None


def _same_chain(gold: Relation, answer: Relation) -> bool:
    """Whether two chains are equal term by term, read in either direction."""
    if len(gold.terms) != len(answer.terms):
        return False
    if gold.relations == answer.relations and all(map(_same, gold.terms, answer.terms)):
        return True
    mirrored = tuple(ORDER.get(relation, relation) for relation in reversed(answer.relations))
    return gold.relations == mirrored and all(map(_same, gold.terms, reversed(answer.terms)))


def _same_equation(gold: Relation, answer: Relation) -> bool:
    """Whether `l = r` or `l < r` says the same: the differences of the sides are proportional."""
    sides = [term for relation in (gold, answer) for term in relation.terms]
    if len(sides) != 4 or not all(isinstance(side, Expression) for side in sides):
        return False
    left, right, answer_left, answer_right = (side.latex for side in sides)
    order = gold.relations[0]
    if order != answer.relations[0]:
        if ORDER.get(order) != answer.relations[0]:
            return False
        answer_left, answer_right = answer_right, answer_left
    return expressions.proportional(
        expressions.difference(left, right),
        expressions.difference(answer_left, answer_right),
        positive=order in ORDER,
    )


def _same_interval(gold: Node, answer: Node) -> bool:
    gold, answer = _interval(gold), _interval(answer)
    return gold is not None and answer is not None and type(gold) is type(answer) and _same(gold, answer)


def _interval(node: Node) -> Node | None:
    r"""Returns the interval that a chain of inequalities describes: `(-\infty,3)` for `x<3`; None if there is none.

    Intervals and unions of them, which may contain inequalities, pass.
    """
    if isinstance(node, Bracketed):
        return node
    if isinstance(node, Union):
        return Union(tuple(_interval(part) or part for part in node.parts))
    if isinstance(node, Collection):  # `x < 1 or x > 3`
        parts = tuple(_interval(part) for part in node.items)
        return None if None in parts else Union(parts)
    if not isinstance(node, Relation):
        return None
    terms, relations = node.terms, node.relations
    if all(relation in (">", r"\ge") for relation in relations):
        terms, relations = terms[::-1], tuple(ORDER[relation] for relation in reversed(relations))
    elif not all(relation in ("<", r"\le") for relation in relations):
        return None
    return _between(terms, relations)


def _between(terms: tuple[Node, ...], relations: tuple[str, ...]) -> Bracketed | None:
    """Returns the interval of an increasing chain around one name."""
    bare = [isinstance(term, Expression) and is_name(term.latex) for term in terms]
    if len(terms) == 2 and bare[0] and not bare[1]:
        terms, relations, bare = (Expression(r"-\infty"), *terms), ("<", *relations), [False, *bare]
    elif len(terms) == 2 and bare[1] and not bare[0]:
        terms, relations, bare = (*terms, Expression(r"\infty")), (*relations, "<"), [*bare, False]
    if len(terms) != 3 or bare[1] is False:
        return None
    opening = "(" if relations[0] in _STRICT else "["
    closing = ")" if relations[1] in _STRICT else "]"
    return Bracketed(opening, (terms[0], terms[2]), closing)
