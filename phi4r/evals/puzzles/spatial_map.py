"""SpatialMap: questions about a map of which a text says how places lie to each other.

Places have distinct positions from west to east and from south to north. Each new one is related to two earlier ones
(the second to the first): it lies northeast, northwest, southeast or southwest of them, strictly so on both axes. Three
kinds of questions take turns: in which direction of Y is X, which of four places lies in a direction of Y, and how many
places do. Whatever is asked is entailed by the text, so the answer is the same on every map that fits it: of each place
in question it follows that it lies in that direction, or that it does not. No statement relates X to Y itself, unless
there are only three places, where every pair is stated.

    wording=short    G NE F       H ? F            in which direction of F is H
                     H SE F       ? NE F: G H      which of G and H is northeast of F
                     H SW G       # NE F           how many are
"""

import dataclasses
import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.errors import UserError
from phi4r.evals.options import choice_prompt, choice_reference, draw_counts
from phi4r.evals.puzzles.puzzle import Puzzle
from phi4r.evals.puzzles.spatial_map_solution import LONG_DIRECTIONS, solve
from phi4r.evals.puzzles.spatial_statements import DIRECTIONS, Closure, Finding, Statement
from phi4r.verifiers.choice import ChoiceVerifier

QUESTIONS = ("direction", "object", "count")
WORDINGS = ("full", "short")

_PLACES = (
    *("bakery", "library", "museum", "school", "theatre", "market", "chapel", "stadium", "hospital"),
    *("mill", "castle", "lighthouse", "station", "garden", "brewery", "cinema", "pharmacy", "fountain"),
)
_LETTERS = "FGHIJKLMOPQRTUVXYZ"  # neither letters of options nor of directions
_LEGEND = """No two of them are equally far east, and no two are equally far north. One place is northeast of another \
if it is both farther east and farther north; northwest, southeast and southwest are meant in the same way."""
_NUM_OPTIONS = 4
_MIN_OBJECTS = 3
_MAX_MAPS = 1000


@dataclasses.dataclass(frozen=True)
class SpatialMap:
    """Statements and what is asked about them.

    The `repr`, by which splits are told apart, leaves the question out: whoever was trained on one question about a
    map knows the map.

    Attributes:
      statements: about objects 0, 1, ...
      names: of the objects in the prompt of wording "full".
      question: one of `QUESTIONS`.
      anchor: the object that directions are seen from.
      direction: the one that "object" and "count" ask about; empty for "direction".
      subject: the object that "direction" asks about; -1 for the others.
      options: directions, objects or counts to choose from.
    """

    statements: tuple[Statement, ...]
    names: tuple[str, ...] = dataclasses.field(repr=False)
    question: str = dataclasses.field(repr=False)
    anchor: int = dataclasses.field(repr=False)
    direction: str = dataclasses.field(repr=False)
    subject: int = dataclasses.field(repr=False)
    options: tuple[int | str, ...] = dataclasses.field(repr=False)


def draw(rng: random.Random, index: int, *, objects: int, min_objects: int, question: str, wording: str) -> SpatialMap:
    """Draws a map about which the question can be asked; `index` decides which one, and of how many objects.

    Args:
      rng: all chance.
      index: of the problem.
      objects: the most there are.
      min_objects: the fewest; 0 for `objects` always.
      question: one of `QUESTIONS`, or "all" in turn.
      wording: one of `WORDINGS`.

    Raises:
      UserError: for too few or too many objects, or an unknown question or wording.
    """
    if not _MIN_OBJECTS <= objects <= len(_PLACES):
        raise UserError(f"spatial_map needs {_MIN_OBJECTS} <= objects <= {len(_PLACES)}, not {objects}.")
    if min_objects and not _MIN_OBJECTS <= min_objects <= objects:
        raise UserError(f"spatial_map needs {_MIN_OBJECTS} <= min_objects <= objects={objects}, not {min_objects}.")
    if question not in ("all", *QUESTIONS):
        raise UserError(f"spatial_map has no question {question!r}; take all, {', '.join(QUESTIONS)}.")
    if wording not in WORDINGS:
        raise UserError(f"spatial_map has no wording {wording!r}; take {' or '.join(WORDINGS)}.")
    asked = question
    if question == "all":
        index, kind = divmod(index, len(QUESTIONS))
        asked = QUESTIONS[kind]
    if min_objects:
        objects = min_objects + index % (objects - min_objects + 1)
    names = tuple(rng.sample(_PLACES, objects))
    for _ in range(_MAX_MAPS):
        statements = _draw_statements(rng, objects)
        drawn = _DRAW_QUESTION[asked](rng, statements, Closure(statements, objects))
        if drawn is not None:
            anchor, direction, subject, options = drawn
            return SpatialMap(statements, names, asked, anchor, direction, subject, options)
    raise UserError(f"spatial_map finds no map of {objects} objects for the question {asked}; take another number.")


def pose(spatial_map: SpatialMap, *, wording: str, **_: int | str) -> tuple[str, str, dict[str, Any]]:
    """Returns prompt, reference and meta data of a map; `steps` is the longest chain of statements that it takes."""
    objects = len(spatial_map.names)
    closure = Closure(spatial_map.statements, objects)
    names: Sequence[str] = _LETTERS[:objects] if wording == "short" else spatial_map.names
    right, findings = _answer(spatial_map, closure)
    options = [_option(spatial_map.question, option, names, wording) for option in spatial_map.options]
    if wording == "short":
        prompt = _short_prompt(spatial_map, names)
    else:
        prompt = choice_prompt(_full_question(spatial_map, names), options)
    steps = max(len(chain) - 1 for finding in findings for _, chain in finding.chains)
    meta = {"question": spatial_map.question, "wording": wording, "objects": objects, "steps": steps}
    return prompt, choice_reference(options, right), meta


def _draw_statements(rng: random.Random, objects: int) -> tuple[Statement, ...]:
    east, north = rng.sample(range(objects), objects), rng.sample(range(objects), objects)
    return tuple(
        Statement(new, ("S", "N")[north[new] > north[old]] + ("W", "E")[east[new] > east[old]], old)
        for new in range(1, objects)
        for old in rng.sample(range(new), min(new, 2))
    )


# What is asked: (anchor, direction, subject, options).
_Question = tuple[int, str, int, tuple[int | str, ...]]


def _draw_direction(rng: random.Random, statements: Sequence[Statement], closure: Closure) -> _Question | None:
    pairs = [pair for pair in itertools.permutations(closure.objects, 2) if closure.direction_of(*pair)]
    if len(closure.objects) > _MIN_OBJECTS:
        stated = {frozenset((statement.subject, statement.other)) for statement in statements}
        pairs = [pair for pair in pairs if frozenset(pair) not in stated]
    if not pairs:
        return None
    subject, anchor = rng.choice(pairs)
    return anchor, "", subject, tuple(rng.sample(list(DIRECTIONS), len(DIRECTIONS)))


def _draw_object(rng: random.Random, statements: Sequence[Statement], closure: Closure) -> _Question | None:
    num_wrong = min(_NUM_OPTIONS, len(closure.objects) - 1) - 1
    found = []
    for anchor, direction in itertools.product(closure.objects, DIRECTIONS):
        findings = closure.decide_all(direction, anchor)
        inside = [subject for subject, finding in findings.items() if finding and finding.holds]
        outside = [subject for subject, finding in findings.items() if finding and not finding.holds]
        if inside and len(outside) >= num_wrong:
            found.append((anchor, direction, inside, outside))
    if not found:
        return None
    anchor, direction, inside, outside = rng.choice(found)
    options = [rng.choice(inside), *rng.sample(outside, num_wrong)]
    return anchor, direction, -1, tuple(rng.sample(options, len(options)))


def _draw_count(rng: random.Random, statements: Sequence[Statement], closure: Closure) -> _Question | None:
    """Draws the count first and then a place that has it, since small counts are the most frequent by far."""
    found: dict[int, list[tuple[int, str]]] = {}
    for anchor, direction in itertools.product(closure.objects, DIRECTIONS):
        findings = closure.decide_all(direction, anchor).values()
        if None not in findings:
            found.setdefault(sum(finding.holds for finding in findings), []).append((anchor, direction))
    if not found:
        return None
    count = rng.choice(sorted(found))
    anchor, direction = rng.choice(found[count])
    return anchor, direction, -1, draw_counts(rng, count)


_DRAW_QUESTION = {"direction": _draw_direction, "object": _draw_object, "count": _draw_count}


def _answer(spatial_map: SpatialMap, closure: Closure) -> tuple[int, list[Finding]]:
    """Returns the index of the right option, and what shows it to be right."""
    anchor, options = spatial_map.anchor, spatial_map.options
    if spatial_map.question == "direction":
        direction, finding = closure.direction_of(spatial_map.subject, anchor)
        return options.index(direction), [finding]
    findings = closure.decide_all(spatial_map.direction, anchor)
    if spatial_map.question == "count":
        return options.index(sum(finding.holds for finding in findings.values())), list(findings.values())
    of_options = [findings[option] for option in options]
    return [finding.holds for finding in of_options].index(True), of_options


def _option(question: str, option: int | str, names: Sequence[str], wording: str) -> str:
    if question == "object":
        return names[option]
    return LONG_DIRECTIONS[option].capitalize() if question == "direction" and wording == "full" else str(option)


def _full_question(spatial_map: SpatialMap, names: Sequence[str]) -> str:
    listed = ", ".join(f"the {name}" for name in names[:-1])
    statements = "\n".join(
        f"The {names[subject]} is {LONG_DIRECTIONS[direction]} of the {names[other]}."
        for subject, direction, other in spatial_map.statements
    )
    direction = LONG_DIRECTIONS.get(spatial_map.direction)
    asked: Mapping[str, str] = {
        "direction": f"In which direction of the {names[spatial_map.anchor]} is the {names[spatial_map.subject]}?",
        "object": f"Which of these places is {direction} of the {names[spatial_map.anchor]}?",
        "count": f"How many of the other places are {direction} of the {names[spatial_map.anchor]}?",
    }
    town = f"A town has {len(names)} places: {listed} and the {names[-1]}. {_LEGEND}"
    return f"{town}\n\n{statements}\n\n{asked[spatial_map.question]}"


def _short_prompt(spatial_map: SpatialMap, names: Sequence[str]) -> str:
    lines = [f"{names[subject]} {direction} {names[other]}" for subject, direction, other in spatial_map.statements]
    anchor = names[spatial_map.anchor]
    if spatial_map.question == "direction":
        asked = f"{names[spatial_map.subject]} ? {anchor}"
    elif spatial_map.question == "object":
        asked = f"? {spatial_map.direction} {anchor}: {' '.join(names[option] for option in spatial_map.options)}"
    else:
        asked = f"# {spatial_map.direction} {anchor}"
    return "\n".join([*lines, asked])


SPATIAL_MAP = Puzzle(
    name="spatial_map",
    title="SpatialMap",
    draw=draw,
    pose=pose,
    make_verifier=lambda thinking: ChoiceVerifier(thinking=thinking),
    parameters={"objects": 6, "min_objects": 0, "question": "all", "wording": "full"},
    num_items=1500,
    groups=("question",),
    level="steps",
    solve=solve,
)
