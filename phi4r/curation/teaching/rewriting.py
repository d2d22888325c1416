"""Rewriting for verifiability (section 2.1 and Figure 3 of the paper): open problems get a short answer to check.

A proof, or a question with a long answer, is turned by a model into a problem whose answer is one value. The model's
word is not taken for it: the new problem stays only if independent solvers, who see nothing but its text, come to the
same answer, and if that answer is short and can be read by the verifier. The original stays linked in `meta`.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from phi4r.curation.asking.asking import is_answer, shortcoming
from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome, dropped, failed, kept
from phi4r.curation.teaching.answer_kinds import INSTRUCTIONS, agreeing, answers_of, check_kind, uncheckable
from phi4r.curation.teaching.asking_stage import AskingStage
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from phi4r.text.template import Message
from phi4r.text.thinking import split_response

NAME = "rewriting"

PROMPT = """Below is a task whose answer is hard to check automatically: it asks for a proof, an explanation, a \
construction or a long text. Write a new task about the same matter, which takes the same ideas to solve, but which \
ends in one short answer that can be checked: a number, an expression or a set.

The new task must
- be complete by itself: whoever solves it does not see the task below;
- have exactly one right answer;
- not give the answer away: what was to be proved is now to be found;
- be no easier than the task below, as far as possible.

Solve the new task before you reply, to be sure of its answer. Then reply in exactly this form:
<task>the new task</task>
<answer>its answer alone, in LaTeX where it needs any</answer>

If no such task can be made of it, reply with <task></task><answer></answer>.

The task:

"""

_ASKS_FOR_TEXT = re.compile(
    r"\b(?:prove|proof|disprove|show\s+(?:that|how|why)|demonstrate|explain|justify|describe|discuss|derive|construct"
    r"|compare|argue|interpret|why|give\s+(?:an?\s+)?(?:example|reasons?|outline)|write\s+(?:an?|the)\b)",
    re.IGNORECASE,
)
_REPLY = re.compile(r"<task>(.*?)</task>\s*<answer>(.*?)</answer>", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class RewritingSettings:
    """Who rewrites, and who checks. None of the numbers is in the paper.

    Attributes:
      rewriter: name of a generator.
      solvers: names of generators that solve the new problem; another model than the rewriter is the better check.
      samples: answers of each solver.
      min_agreement: least share of all solvers' samples that agree with the new answer.
      max_attempts: replies asked of the rewriter for one that has the form.
      max_answer_length: characters of an answer that counts as short.
      unanswered: which items without any answer are rewritten: those whose prompt asks for a proof, an explanation or
        the like ("by_prompt"; the others may well have a short answer that nobody has written down), "all" or "none".
      answers: kind of the answers that need no rewriting: "math", "choice" or "module:Class" of a verifier. New answers
        are of the kind "math".
      instruction: follows the new prompt when it is solved; None for the usual one.
      skip_domains: items of these domains pass untouched; safety data have a stage of their own.
      batch_size: items asked about at a time.
    """

    rewriter: str
    solvers: tuple[str, ...]
    samples: int = 4
    min_agreement: float = 0.75
    max_attempts: int = 3
    max_answer_length: int = 64
    unanswered: Literal["by_prompt", "all", "none"] = "by_prompt"
    answers: str = "math"
    instruction: str | None = None
    skip_domains: tuple[str, ...] = ("safety",)
    batch_size: int = 64

    def __post_init__(self):
        check_kind(self.answers, where="rewriting.answers", voting=False)
        if not self.rewriter or not self.solvers:
            raise UserError("rewriting needs rewriter, the name of a generator, and solvers, at least one name.")
        if min(self.samples, self.max_attempts, self.max_answer_length, self.batch_size) < 1:
            raise UserError("rewriting needs samples, max_attempts, max_answer_length and batch_size of at least 1.")
        if not 0 < self.min_agreement <= 1:
            raise UserError(f"rewriting needs 0 < min_agreement <= 1, not {self.min_agreement:g}.")


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """A new problem as a model wrote it; both empty where it says that there is none."""

    prompt: str
    answer: str


class RewritingStage(AskingStage[RewritingSettings]):
    """An ItemStage that makes open problems checkable; items with a short answer pass untouched."""

    name = NAME

    def asked(self) -> Sequence[str]:
        """Returns the names of the generators that the settings want asked."""
        return (self._settings.rewriter, *self._settings.solvers)

    def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item."""
        outcomes = [kept(item) for item in items]
        open_ones = [number for number, item in enumerate(items) if self._is_open(item)]
        rewritten = self._rewrite([items[number] for number in open_ones])
        for number, found in zip(open_ones, rewritten, strict=True):
            outcomes[number] = self._screen(items[number], found)
        self._solve(outcomes, [number for number in open_ones if outcomes[number].kept])
        return outcomes

    def _is_open(self, item: Item) -> bool:
        settings = self._settings
        if not item.answer.strip():
            return settings.unanswered == "all" or (settings.unanswered == "by_prompt" and asks_for_text(item.prompt))
        return bool(uncheckable(settings.answers, item.answer, max_length=settings.max_answer_length))

    def _rewrite(self, items: Sequence[Item]) -> list[Rewritten | tuple[str, str]]:
        """Returns a new problem for each item, or why there is none and what was said."""
        found: list[Rewritten | tuple[str, str]] = [("", "")] * len(items)
        wanted = list(range(len(items)))
        for attempt in range(self._settings.max_attempts):
            asked = [[{"role": "user", "content": PROMPT + items[number].prompt}] for number in wanted]
            replies = self._askers[self._settings.rewriter](asked, sample_ids=[[attempt]] * len(wanted))
            for number, (reply,) in zip(wanted, replies, strict=True):
                found[number] = _read_reply(reply)
            wanted = [
                number
                for number, (reply,) in zip(wanted, replies, strict=True)
                if is_answer(reply) and not isinstance(found[number], Rewritten)
            ]
            if not wanted:
                break
        return found

    def _screen(self, item: Item, found: Rewritten | tuple[str, str]) -> Outcome:
        """Puts the new problem in the place of the old one, if its answer can be checked."""
        if not isinstance(found, Rewritten):
            return failed(item.noted(NAME, said=found[1]), found[0])
        if not found.prompt:
            return dropped(item, "cannot be rewritten")
        new = dataclasses.replace(item, prompt=found.prompt, answer=found.answer, thought="", solution="")
        new = new.noted(
            NAME,
            original_id=item.id,
            original_prompt=item.prompt,
            original_answer=item.answer,
            original_solution=item.solution,
        )
        why_not = uncheckable("math", found.answer, max_length=self._settings.max_answer_length)
        return dropped(new, f"new {why_not}") if why_not else kept(new)

    def _solve(self, outcomes: list[Outcome], numbers: Sequence[int]) -> None:
        """Lets the solvers decide about the new problems at `numbers`, in place."""
        settings = self._settings
        instruction = INSTRUCTIONS["math"] if settings.instruction is None else settings.instruction
        asked: list[list[Message]] = [
            [{"role": "user", "content": f"{outcomes[number].item.prompt}\n\n{instruction}".strip()}]
            for number in numbers
        ]
        solved = {name: self._askers[name](asked, num_samples=settings.samples) for name in settings.solvers}
        for place, number in enumerate(numbers):
            by_solver = {name: samples[place] for name, samples in solved.items()}
            outcomes[number] = self._judge(outcomes[number].item, by_solver)

    def _judge(self, item: Item, by_solver: Mapping[str, Sequence[Completion]]) -> Outcome:
        """Keeps a new problem on whose answer the solvers agree."""
        agrees: dict[str, list[bool]] = {}
        for name, samples in by_solver.items():
            lack = shortcoming(samples, "a solver")
            if lack is not None:
                return failed(item.noted(NAME, said=lack[1]), lack[0])
            thinking = self._askers[name].thinking
            answers = answers_of("math", [sample.text for sample in samples], thinking=thinking)
            agrees[name] = agreeing("math", answers, item.answer, self._pool)
        shares = {name: sum(of_solver) / len(of_solver) for name, of_solver in agrees.items()}
        share = sum(map(sum, agrees.values())) / sum(map(len, agrees.values()))
        item = item.noted(NAME, agreement=share, of_each=shares)
        return (
            kept(item) if share >= self._settings.min_agreement else dropped(item, "solvers disagree with the answer")
        )


def asks_for_text(prompt: str) -> bool:
    """Whether a prompt asks for a proof, an explanation, an example or a text, by its words."""
    return _ASKS_FOR_TEXT.search(prompt) is not None


def read_rewritten(reply: str) -> Rewritten | None:
    """Reads a new problem, or returns None where a reply has another form than the one that was asked for.

    Words before and after it are allowed, a second task is not; nor is one without an answer.
    """
    solution = split_response(reply).solution
    found = _REPLY.findall(solution)
    if len(found) != 1 or solution.count("<task>") != 1 or solution.count("<answer>") != 1:
        return None
    prompt, answer = (text.strip() for text in found[0])
    answer = answer.removeprefix("$").removesuffix("$").strip()
    return Rewritten(prompt, answer) if bool(prompt) == bool(answer) else None


def _read_reply(reply: Completion) -> Rewritten | tuple[str, str]:
    lack = shortcoming([reply], "the rewriter")
    return lack if lack is not None else read_rewritten(reply.text) or ("rewriting of a wrong form", reply.text[:500])
