"""FLenQA: the same short reasoning in texts of 250 to 3000 tokens.

A statement is true or false by two key facts. They stand first, in the middle, last or anywhere in padding, which is
facts of the same kind about others ("resample") or prose. A problem of three kinds, four places, two paddings, five
lengths and two labels is drawn for each index in turn, so every cell of a set is balanced.

`length` counts tokens of the text by the estimate of `words.num_tokens`; the report's subset is `flenqa?length=3000`
(2400 problems). Several take turns, as in `length=250,500`, and 0 leaves the padding out. Short wording is small enough
to learn from nothing: `flenqa?length=0,12&padding=resample&wording=short`. Its facts have three letters, which are
what `length` counts there: 12 is two facts and two others.
"""

import dataclasses
import random
from collections.abc import Iterator
from typing import Any

from phi4r.data.records import Problem, Trace
from phi4r.errors import UserError
from phi4r.evals.puzzles import flenqa_facts as facts
from phi4r.evals.puzzles.flenqa_facts import COLOURS, KINDS, PROPERTIES, RELATIONS, ROOMS, Fact, Names
from phi4r.evals.puzzles.puzzle import Puzzle
from phi4r.evals.puzzles.words import PEOPLE, num_tokens, prose
from phi4r.verifiers.boolean import BooleanVerifier

LENGTHS = (250, 500, 1000, 2000, 3000)
PADDINGS = ("resample", "prose")
DISPERSIONS = ("first", "middle", "last", "random")

_MIN_LENGTH, _MAX_LENGTH = 50, 10_000  # of a text with padding, in tokens
_MIN_SHORT_LENGTH = 9  # in short wording, in letters: one fact of padding
_NONE = "none"
_ALL = "all"

_NOTES = {
    "relations": "The statement is true if it follows from the text; otherwise it is false.",
    "rooms": "Everybody is in one room, and all walls of a room have one colour.",
    "rules": "The statement is true if the rule and the text yield it; otherwise it is false.",
}


@dataclasses.dataclass(frozen=True)
class Instance:
    """Two key facts, what is asked, and where they are hidden.

    Attributes:
      kind: of reasoning.
      people: indices of `PEOPLE`. Relations: older, middle, younger. Rooms: the one who is asked for. Rules: the one
        who is asked for, and the one that the second fact is about if it is another.
      words: indices of the kind's words. Relations: the relation. Rooms: room, colour, asked colour if it is another.
        Rules: two conditions, the conclusion, and what the second fact says if it is not the second condition.
      label: whether the statement is true.
      swapped: whether the second fact stands first.
      length: of the text, in tokens; 0 without padding.
      padding: "resample", "prose" or "none".
      dispersion: where the key facts stand: "first", "middle", "last", "random" or "none".
      seed: of names, tellings and padding; 0 without padding.
    """

    kind: str
    people: tuple[int, ...]
    words: tuple[int, ...]
    label: bool
    swapped: bool
    length: int
    padding: str
    dispersion: str
    seed: int


def draw(
    rng: random.Random, index: int, *, kind: str, length: int | str, padding: str, dispersion: str, wording: str
) -> Instance:
    """Draws an instance; `index` counts through kinds, places, paddings, lengths and labels, in this order.

    Raises:
      UserError: for unknown parameters.
    """
    if wording not in ("full", "short"):
        raise UserError(f"flenqa has no wording={wording}; take full or short.")
    lengths = _lengths(length, _MIN_SHORT_LENGTH if wording == "short" else _MIN_LENGTH)
    unpadded = lengths == (0,)
    dispersions, paddings = _choice("dispersion", dispersion, DISPERSIONS), _choice("padding", padding, PADDINGS)
    kind, index = _next(index, _choice("kind", kind, KINDS))
    dispersion, index = _next(index, (_NONE,) if unpadded else dispersions)
    padding, index = _next(index, (_NONE,) if unpadded else paddings)
    size, index = _next(index, lengths)
    if not size:
        dispersion = padding = _NONE
    label = index % 2 == 0
    people, words = _key(rng, kind, label)
    swapped, seed = rng.random() < 0.5, rng.getrandbits(32) if size else 0
    return Instance(kind, people, words, label, swapped, size, padding, dispersion, seed)


def pose(instance: Instance, *, wording: str, **_: int | str) -> tuple[str, str, dict[str, Any]]:
    """Returns the question, "true" or "false", and the groups with the evidence that the solver cites."""
    short = wording == "short"
    rng = random.Random(repr(instance))
    rooms = instance.words[:1] if instance.kind == "rooms" else ()
    names = Names(rng, instance.people, rooms, short=short)
    key, statement, conclusion, rule = _stated(instance, names, short)
    told = [fact.short if short else fact.told(rng) for fact in key]
    text = " ".join(_hidden(rng, instance, names, told[::-1] if instance.swapped else told, short))
    answer = "true" if instance.label else "false"
    meta = {
        "kind": instance.kind,
        "length": instance.length,
        "padding": instance.padding,
        "dispersion": instance.dispersion,
        "evidence": told,
        "conclusion": conclusion,
    }
    if short:
        return f"{rule}{text} {statement.short}?", answer, meta
    prompt = (
        "Read the text and decide whether the statement below it is true or false.\n\n"
        f"Text:\n{text}\n\n{rule}Statement: {statement.plain()}\n\n{_NOTES[instance.kind]} Reason step by step. "
        "End with one line that holds a single word, either True or False."
    )
    return prompt, answer, meta


def solve(problem: Problem) -> Trace:
    """Writes the worked solution: the two key facts, and what they yield."""
    first, second = problem.meta["evidence"]
    conclusion = problem.meta["conclusion"]
    if problem.prompt.endswith("?"):
        thought, solution = f"{first} {second} {conclusion}", f"\\boxed{{{problem.answer}}}"
    else:
        thought = f"The text says: {first}\nIt also says: {second}\n{conclusion}"
        solution = f"{conclusion}\n\n{problem.answer.capitalize()}"
    return Trace(problem.id, problem.prompt, thought, solution, problem.answer, dict(problem.meta))


def _key(rng: random.Random, kind: str, label: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draws the people and words of an instance, and none that its wording would not show."""
    if kind == "relations":
        return _distinct(rng, PEOPLE, 3), _distinct(rng, RELATIONS, 1)
    if kind == "rooms":
        colours = _distinct(rng, COLOURS, 1 if label else 2)
        return _distinct(rng, PEOPLE, 1), (*_distinct(rng, ROOMS, 1), *colours)
    other_person = not label and rng.random() < 0.5
    other_word = not label and not other_person
    return _distinct(rng, PEOPLE, 1 + other_person), _distinct(rng, PROPERTIES, 3 + other_word)


def _stated(instance: Instance, names: Names, short: bool) -> tuple[list[Fact], Fact, str, str]:
    """Returns the key facts, the statement, what follows (as the solver says it) and the rule (as the text says it)."""
    people, words, label = [names.person(person) for person in instance.people], instance.words, instance.label
    verdict = f"so the statement is {str(label).lower()}."
    rule = ""
    if instance.kind == "relations":
        oldest, middle, youngest = people
        word = RELATIONS[words[0]]
        key = [facts.relation(word, oldest, middle), facts.relation(word, middle, youngest)]
        follows = facts.relation(word, oldest, youngest)
        statement = follows if label else facts.relation(word, youngest, oldest)
        conclusion = f"Together, {follows.plain().rstrip('.')}, {verdict}"
    elif instance.kind == "rooms":
        room, colours = names.room(words[0]), [COLOURS[word] for word in words[1:]]
        key = [facts.whereabouts(people[0], room), facts.walls(room, colours[0])]
        follows, statement = (facts.surroundings(people[0], colour) for colour in (colours[0], colours[-1]))
        conclusion = f"Together, {follows.plain().rstrip('.')}, {verdict}"
    else:
        one, two, then = (PROPERTIES[word] for word in words[:3])
        rule = f"{one[0]}{two[0]}>{then[0]} " if short else f"Rule: Whoever is {one} and {two} is also {then}.\n"
        key = [
            facts.attribute(people[0], one),
            facts.attribute(people[-1], two if len(words) == 3 else PROPERTIES[words[3]]),
        ]
        follows = statement = facts.attribute(people[0], then)
        conclusion = f"The rule asks for {one} and {two}, "
        conclusion += (
            f"and {people[0]} is both, {verdict}" if label else f"but nothing says that {people[0]} is {two}, {verdict}"
        )
    if short:
        conclusion = follows.short if label or instance.kind != "rules" else f"{people[0][0]}-{PROPERTIES[words[1]][0]}"
    return key, statement, conclusion, rule


def _hidden(rng: random.Random, instance: Instance, names: Names, key: list[str], short: bool) -> list[str]:
    """Returns the sentences of the text: the key facts within their padding."""
    padding: list[str] = []
    size_of = len if short and instance.padding == "resample" else num_tokens
    missing = instance.length - sum(map(size_of, key))
    sentences = _padding(rng, instance, names, short) if instance.length else iter(())
    for sentence in sentences:
        size = size_of(sentence)
        if 2 * missing < size:  # the length without it is nearer to what is asked for
            break
        padding.append(sentence)
        missing -= size
    first, second = {
        "first": (0, 0),
        "middle": (len(padding) // 2,) * 2,
        "last": (len(padding),) * 2,
        "random": sorted(rng.randrange(len(padding) + 1) for _ in key),
        _NONE: (0, 0),
    }[instance.dispersion]
    return [*padding[:first], key[0], *padding[first:second], key[1], *padding[second:]]


def _padding(rng: random.Random, instance: Instance, names: Names, short: bool) -> Iterator[str]:
    if instance.padding == "prose":
        return prose(rng)
    word = RELATIONS[instance.words[0]] if instance.kind == "relations" else ""
    resampled = facts.resampled(rng, instance.kind, names, word)
    return (fact.short if short else fact.told(rng) for fact in resampled)


def _lengths(length: int | str, least: int) -> tuple[int, ...]:
    if length == _ALL:
        return LENGTHS
    sizes = [
        int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else -1 for text in str(length).split(",")
    ]
    if any(size and not least <= size <= _MAX_LENGTH for size in sizes):
        raise UserError(
            f"flenqa has no length={length}; take all, 0 (no padding), {least} to {_MAX_LENGTH} tokens, or several of "
            "these with commas between them."
        )
    return tuple(sizes)


def _choice(name: str, value: str, values: tuple[str, ...]) -> tuple[str, ...]:
    if value != _ALL and value not in values:
        raise UserError(f"flenqa has no {name}={value}; take all, or one of {', '.join(values)}.")
    return values if value == _ALL else (value,)


def _next(index: int, values: tuple[Any, ...]) -> tuple[Any, int]:
    """Returns the value that `index` stands at, and the index that counts the rounds."""
    return values[index % len(values)], index // len(values)


def _distinct(rng: random.Random, words: tuple[str, ...], num: int) -> tuple[int, ...]:
    return tuple(rng.sample(range(len(words)), num))


FLENQA = Puzzle(
    name="flenqa",
    title="FLenQA",
    draw=draw,
    pose=pose,
    make_verifier=BooleanVerifier,
    parameters={"kind": _ALL, "length": _ALL, "padding": _ALL, "dispersion": _ALL, "wording": "full"},
    num_items=12_000,
    groups=("length", "padding", "dispersion", "kind"),
    level="length",
    solve=solve,
)
