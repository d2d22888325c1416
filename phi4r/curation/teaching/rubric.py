"""The rubric (section 2.1 of the paper): language models grade the number and the complexity of reasoning steps.

A grade is one JSON object of a fixed form and nothing else. A reply of another form is asked for again as a fresh
sample, up to `max_attempts` times; an item that gets no grade is set aside as failed, never graded by default.
"""

import dataclasses
import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from phi4r.curation.asking.asking import Asker, is_answer, shortcoming
from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome, dropped, failed, kept
from phi4r.curation.teaching.asking_stage import AskingStage
from phi4r.curation.teaching.grader_agreement import exact_share, krippendorff_alpha, mean_difference
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from phi4r.text.template import Message
from phi4r.text.thinking import split_response

NAME = "rubric"
MAX_STEPS, MAX_COMPLEXITY = 100, 5

PROMPT = """You grade tasks by how much reasoning they ask for. Do not write out a solution of the task below. Only \
judge how a careful person would get from the task to its answer.

Give two numbers.
num_steps: how many separate reasoning steps are needed, from 1 to 100. A step is one deduction, one calculation, one \
case, or one fact that has to be recalled and put to use. Reading the task is no step.
complexity: how demanding the hardest of these steps is.
  1  routine: a single operation that anybody can name
  2  simple: a standard method, applied directly
  3  moderate: methods have to be chosen or combined
  4  hard: an idea is needed that the task does not suggest
  5  very hard: several such ideas, or one that experts would look for

Reply with one JSON object and nothing else, of exactly this form:
{"reason": "one or two sentences", "num_steps": 4, "complexity": 2}

The task:

"""

_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class RubricSettings:
    """Who grades, and which grades are good enough. None of the numbers is in the paper.

    Attributes:
      graders: names of generators.
      samples: grades that each of them gives to an item.
      max_attempts: replies asked of a grader for one grade, before the item fails.
      min_steps: least mean number of steps.
      min_complexity: least mean complexity, from 1 to 5.
      max_difference: most mean absolute difference of two grades of the complexity.
      skip_domains: items of these domains pass untouched; safety data have a stage of their own.
      batch_size: items asked about at a time.
    """

    graders: tuple[str, ...]
    samples: int = 1
    max_attempts: int = 3
    min_steps: float = 3.0
    min_complexity: float = 2.0
    max_difference: float = 4.0
    skip_domains: tuple[str, ...] = ("safety",)
    batch_size: int = 64

    def __post_init__(self):
        if not self.graders:
            raise UserError("rubric needs graders, at least one name of a generator.")
        if min(self.samples, self.max_attempts, self.batch_size) < 1:
            raise UserError("rubric needs samples, max_attempts and batch_size of at least 1.")
        if self.min_steps > MAX_STEPS or self.min_complexity > MAX_COMPLEXITY or self.max_difference < 0:
            raise UserError(
                f"rubric needs min_steps <= {MAX_STEPS}, min_complexity <= {MAX_COMPLEXITY} and max_difference >= 0."
            )


@dataclasses.dataclass(frozen=True)
class Grade:
    """What a grader says of an item.

    Attributes:
      num_steps: from 1 to 100.
      complexity: of the hardest step, from 1 to 5.
      reason: in words.
    """

    num_steps: int
    complexity: int
    reason: str


class RubricStage(AskingStage[RubricSettings]):
    """An ItemStage that keeps the prompts that take enough, and hard enough, steps."""

    name = NAME

    def asked(self) -> Sequence[str]:
        """Returns the names of the generators that the settings want asked."""
        return self._settings.graders

    def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item."""
        by_grader = {name: self._grade(self._askers[name], items) for name in self._settings.graders}
        return [
            self._judge(item, {name: grades[number] for name, grades in by_grader.items()})
            for number, item in enumerate(items)
        ]

    def _grade(self, asker: Asker, items: Sequence[Item]) -> list[list[Grade | tuple[str, str]]]:
        """Returns the grades of one grader for each item; in place of one that could not be had, why and what was said.

        Grade i of an item is read from its samples i, i + samples, i + 2 samples, ...: the first that has the form.
        """
        settings = self._settings
        grades: list[list[Grade | tuple[str, str]]] = [[("", "")] * settings.samples for _ in items]
        wanted = {number: list(range(settings.samples)) for number in range(len(items))}
        for attempt in range(settings.max_attempts):
            replies = asker(
                [ask_grade(items[number].prompt) for number in wanted],
                sample_ids=[[slot + attempt * settings.samples for slot in slots] for slots in wanted.values()],
            )
            unread: dict[int, list[int]] = {}
            for (number, slots), of_item in zip(wanted.items(), replies, strict=True):
                for slot, reply in zip(slots, of_item, strict=True):
                    grades[number][slot] = _read_reply(reply)
                    if is_answer(reply) and not isinstance(grades[number][slot], Grade):
                        unread.setdefault(number, []).append(slot)
            wanted = unread
            if not wanted:
                break
        return grades

    def _judge(self, item: Item, by_grader: Mapping[str, Sequence[Grade | tuple[str, str]]]) -> Outcome:
        """Notes the grades of an item and how well they agree, and holds them against the thresholds."""
        settings = self._settings
        given = [(name, grade) for name, grades in by_grader.items() for grade in grades]
        for _, grade in given:
            if not isinstance(grade, Grade):
                return failed(item.noted(NAME, said=grade[1]), grade[0])
        steps = [grade.num_steps for _, grade in given]
        complexities = [grade.complexity for _, grade in given]
        item = item.noted(
            NAME,
            num_steps=statistics.fmean(steps),
            complexity=statistics.fmean(complexities),
            steps_difference=mean_difference(steps),
            complexity_difference=mean_difference(complexities),
            complexity_exact=exact_share(complexities),
            grades=[{"grader": name, **dataclasses.asdict(grade)} for name, grade in given],
        )
        if mean_difference(complexities) > settings.max_difference:
            return dropped(item, "the graders disagree")
        if statistics.fmean(steps) < settings.min_steps:
            return dropped(item, "too few steps")
        if statistics.fmean(complexities) < settings.min_complexity:
            return dropped(item, "too simple")
        return kept(item)


def ask_grade(prompt: str) -> list[Message]:
    """Returns the request for a grade of a prompt."""
    return [{"role": "user", "content": PROMPT + prompt}]


def read_grade(reply: str) -> Grade | None:
    """Reads a grade, or returns None where a reply is anything else than the JSON object that was asked for.

    A thought before it and a fence around it are allowed; another key, a number in quotes, with a fraction or out of
    its range, and words around the object are not.
    """
    text = split_response(reply).solution.strip()
    fenced = _FENCE.fullmatch(text)
    try:
        values = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or values.keys() != {"reason", "num_steps", "complexity"}:
        return None
    reason, steps, complexity = values["reason"], values["num_steps"], values["complexity"]
    if type(steps) is not int or type(complexity) is not int or not isinstance(reason, str):
        return None
    if not 1 <= steps <= MAX_STEPS or not 1 <= complexity <= MAX_COMPLEXITY:
        return None
    return Grade(steps, complexity, reason)


def graders_report(items: Iterable[Item]) -> dict[str, Any]:
    """Returns how well the graders agree over items that were graded, kept and dropped ones.

    Returns:
      `items` (with at least two grades), and of "num_steps" and of "complexity" the mean absolute difference of two
      grades, the share of equal ones, and Krippendorff's alpha (None where it is not defined).
    """
    graded = [item.meta.get(NAME, {}).get("grades", []) for item in items]
    graded = [grades for grades in graded if len(grades) > 1]
    report: dict[str, Any] = {"items": len(graded)}
    if not graded:
        return report
    for name in ("num_steps", "complexity"):
        units = [[grade[name] for grade in grades] for grades in graded]
        report[name] = {
            "mean_difference": statistics.fmean(map(mean_difference, units)),
            "exact_share": statistics.fmean(map(exact_share, units)),
            "alpha": krippendorff_alpha(units),
        }
    return report


def _read_reply(reply: Completion) -> Grade | tuple[str, str]:
    lack = shortcoming([reply], "a grader")
    return lack if lack is not None else read_grade(reply.text) or ("grade of a wrong form", reply.text[:500])
