"""Teacher traces (section 2.2 of the paper): a thought and a solution for each prompt.

The life of an item:

1. The teacher of the first level of effort answers several times. With `escalate` the next level is asked only where
   this one gave no trace to keep: medium effort first, then high.
2. Every answer is screened (`phi4r.curation.teaching.trace_screens`) and, where the item has an answer, judged by a
   verifier.
3. Of those that pass, one is chosen, and the item gets its thought and solution. With `select="all"` the others are
   kept in `meta["traces"]["others"]`: the item stays one row with one id until `expanded` makes a row of each.

What is noted: `tries` of all levels asked, `share_correct` of these (right ones that pass the screens), `faults` of the
others, and of the trace its effort, teacher, sample and counts of tokens.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from phi4r.curation.asking.asking import FAILED, Asker
from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome, dropped, failed, kept
from phi4r.curation.teaching.answer_kinds import INSTRUCTIONS, check_kind, verifier_of
from phi4r.curation.teaching.asking_stage import AskingStage
from phi4r.curation.teaching.trace_screens import Screened, ScreenSettings, TraceScreens
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from phi4r.text.template import Message
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.verdict import Verdict

NAME = "traces"


@dataclasses.dataclass(frozen=True)
class LevelSettings:
    """A level of effort.

    Attributes:
      name: as "medium" or "high".
      teacher: name of a generator; what makes it try harder is in its own settings (`endpoint.extra`, as
        {"reasoning_effort": "high"}) or in the instruction.
      samples: answers to each prompt; not in the paper.
      instruction: a system message that asks for this effort; empty for none.
    """

    name: str
    teacher: str
    samples: int = 4
    instruction: str = ""

    def __post_init__(self):
        if not self.name or not self.teacher or self.samples < 1:
            raise UserError("a level of traces needs a name, teacher, the name of a generator, and samples >= 1.")


@dataclasses.dataclass(frozen=True)
class TracesSettings:
    """Who teaches, and which traces are kept.

    Attributes:
      levels: of effort, in the order in which they are asked.
      escalate: whether a level is asked only where those before it gave no trace; otherwise all are asked.
      select: which trace an item gets: the first that passes, the shortest, the best by its verdict (of equals the
        shortest), or all of them, the first in its place.
      require_correct: whether a trace of an item with an answer must be right.
      answers: kind of the answers: "math", "choice" or "module:Class" of a verifier.
      instruction: follows the prompt of an item with an answer; None for the usual one of that kind of answers.
      screens: what a trace must be like.
      skip_domains: items of these domains pass untouched; safety data have a stage of their own.
      batch_size: items asked about at a time.
    """

    levels: tuple[LevelSettings, ...]
    escalate: bool = True
    select: Literal["first", "shortest", "best", "all"] = "first"
    require_correct: bool = True
    answers: str = "math"
    instruction: str | None = None
    screens: ScreenSettings = dataclasses.field(default_factory=ScreenSettings)
    skip_domains: tuple[str, ...] = ("safety",)
    batch_size: int = 32

    def __post_init__(self):
        check_kind(self.answers, where="traces.answers", voting=False)
        if not self.levels or self.batch_size < 1:
            raise UserError("traces needs at least one level, with name and teacher, and batch_size >= 1.")
        if len({level.name for level in self.levels}) < len(self.levels):
            raise UserError("two levels of traces have the same name; give each its own.")


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """One answer of a teacher."""

    level: LevelSettings
    sample: int
    completion: Completion
    screened: Screened
    verdict: Verdict | None  # None where there is nothing to compare with
    reason: str  # why it is no trace to keep; empty where it is one


class TracesStage(AskingStage[TracesSettings]):
    """An ItemStage that gives items the thought and the solution of a teacher."""

    name = NAME

    def __init__(self, settings: TracesSettings, askers: Mapping[str, Asker], *, pool: VerifierPool | None = None):
        """Asks nothing and opens nothing yet; see `AskingStage`."""
        super().__init__(settings, askers, pool=pool)
        self._screens = TraceScreens(settings.screens)

    def asked(self) -> Sequence[str]:
        """Returns the names of the generators that the settings want asked."""
        return [level.teacher for level in self._settings.levels]

    def applies(self, item: Item) -> bool:
        """Whether the stage looks at an item: one that has a thought and a solution passes untouched."""
        return super().applies(item) and not (item.thought.strip() and item.solution.strip())

    def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item."""
        attempts: list[list[_Attempt]] = [[] for _ in items]
        for level in self._settings.levels:
            wanted = [number for number in range(len(items)) if self._goes_on(attempts[number])]
            questions = [self._question(items[number], level) for number in wanted]
            answered = self._askers[level.teacher](questions, num_samples=level.samples)
            for number, samples in zip(wanted, answered, strict=True):
                attempts[number] += self._attempts(items[number], level, samples)
        return [self._choose(item, of_item) for item, of_item in zip(items, attempts, strict=True)]

    def _goes_on(self, attempts: Sequence[_Attempt]) -> bool:
        """Whether the next level is asked; not after a failure, for what was lost might have been the trace."""
        if any(attempt.completion.finish_reason == FAILED for attempt in attempts):
            return False
        return not self._settings.escalate or all(attempt.reason for attempt in attempts)

    def _question(self, item: Item, level: LevelSettings) -> list[Message]:
        instruction = self._settings.instruction
        if not item.answer.strip():
            instruction = ""
        elif instruction is None:
            instruction = INSTRUCTIONS.get(self._settings.answers, "")
        system = [{"role": "system", "content": level.instruction}] if level.instruction else []
        return [*system, {"role": "user", "content": f"{item.prompt}\n\n{instruction}" if instruction else item.prompt}]

    def _attempts(self, item: Item, level: LevelSettings, samples: Sequence[Completion]) -> list[_Attempt]:
        """Screens and judges the answers of one level."""
        screened = [self._screens(sample) for sample in samples]
        verdicts: list[Verdict | None] = [None] * len(samples)
        judged = [number for number, one in enumerate(screened) if item.answer.strip() and not one.reason]
        verifier = verifier_of(self._settings.answers, thinking=False)
        solutions = [screened[number].solution for number in judged]
        for number, verdict in zip(
            judged, self._pool.verify_all(verifier, solutions, [item.answer] * len(judged)), strict=True
        ):
            verdicts[number] = verdict
        return [
            _Attempt(level, number, sample, one, verdict, one.reason or self._fault(verdict))
            for number, (sample, one, verdict) in enumerate(zip(samples, screened, verdicts, strict=True))
        ]

    def _fault(self, verdict: Verdict | None) -> str:
        """Returns what is wrong with an answer that was judged."""
        if verdict is None:
            return ""
        if verdict.status == "no_answer":
            return "no answer in the solution"
        if verdict.correct or not self._settings.require_correct:
            return ""
        return "wrong answer" if verdict.status == "ok" else "not judged"

    def _choose(self, item: Item, attempts: Sequence[_Attempt]) -> Outcome:
        """Gives an item its trace."""
        for attempt in attempts:
            if attempt.completion.finish_reason == FAILED:
                return failed(item.noted(NAME, said=attempt.completion.text), "the teacher did not answer")
        judged = [attempt.verdict.correct for attempt in attempts if attempt.verdict is not None]
        faults = collections.Counter(attempt.reason for attempt in attempts if attempt.reason)
        item = item.noted(
            NAME,
            tries=len(attempts),
            share_correct=sum(judged) / len(attempts) if item.answer.strip() else None,
            faults=dict(sorted(faults.items())),
        )
        good = [attempt for attempt in attempts if not attempt.reason]
        if not good:
            (_, most), *_ = faults.most_common(1)
            return dropped(item, min(reason for reason, count in faults.items() if count == most))
        chosen = _chosen(good, self._settings.select)
        others = [attempt for attempt in good if attempt is not chosen] if self._settings.select == "all" else []
        trace = self._row(chosen)
        thought, solution = trace.pop("thought"), trace.pop("solution")
        item = dataclasses.replace(item, thought=thought, solution=solution)
        return kept(
            item.noted(NAME, **trace, select=self._settings.select, others=[self._row(other) for other in others])
        )

    def _row(self, attempt: _Attempt) -> dict[str, Any]:
        """Returns a trace as JSON values."""
        screened = attempt.screened
        return {
            "thought": screened.thought,
            "solution": screened.solution,
            "effort": attempt.level.name,
            "teacher": attempt.level.teacher,
            "identity": self._askers[attempt.level.teacher].identity,
            "sample": attempt.sample,
            "num_tokens": screened.num_tokens,
            "thought_tokens": screened.thought_tokens,
            "solution_tokens": screened.solution_tokens,
            "is_correct": None if attempt.verdict is None else attempt.verdict.correct,
        }


def expanded(item: Item) -> list[Item]:
    """Returns an item for each trace of one that holds several: the item itself, then `ID-1`, `ID-2`, ..."""
    noted = dict(item.meta.get(NAME, {}))
    others = noted.pop("others", [])
    rows = [dataclasses.replace(item, meta={**item.meta, NAME: noted})] if noted else [item]
    for number, other in enumerate(others, start=1):
        found = {key: value for key, value in other.items() if key not in ("thought", "solution")}
        rows.append(
            dataclasses.replace(
                item,
                id=f"{item.id}-{number}",
                thought=other["thought"],
                solution=other["solution"],
                meta={**item.meta, NAME: {**noted, **found}},
            )
        )
    return rows


def _chosen(good: Sequence[_Attempt], select: str) -> _Attempt:
    """Returns the trace that an item gets; of equals the one that came first."""
    if select == "shortest":
        return min(good, key=lambda attempt: attempt.screened.num_tokens)
    if select == "best":
        return min(good, key=lambda attempt: (-_score(attempt), attempt.screened.num_tokens))
    return good[0]


def _score(attempt: _Attempt) -> float:
    return 0.0 if attempt.verdict is None else attempt.verdict.score
