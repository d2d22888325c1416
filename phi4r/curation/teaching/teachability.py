"""Teachability (section 2.1 of the paper): which prompts are at the edge of the base model's ability.

The life of an item:

1. A strong model answers it several times. The answer that most of its samples give, up to equivalence, is the proxy of
   the truth; where they do not agree well enough, the item is dropped.
2. Weak models answer it several times. Their agreement with that answer says how hard the item is: all right is too
   easy, all wrong too hard, and what lies in the band between is kept, if it takes several steps.

No gold answer is needed. Where an item has none, the strong model's becomes its answer.
"""

import dataclasses
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.curation.asking.asking import shortcoming
from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome, dropped, failed, kept
from phi4r.curation.teaching.answer_kinds import INSTRUCTIONS, agreeing, answers_of, check_kind, choice_letter, vote
from phi4r.curation.teaching.asking_stage import AskingStage
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from phi4r.text.template import Message
from phi4r.text.thinking import split_response

NAME = "teachability"

_END_OF_STEP = re.compile(r"\n+|(?<=[.;!?])\s+(?=[A-Z0-9$\\(])")


@dataclasses.dataclass(frozen=True)
class TeachabilitySettings:
    """How hard a prompt may be. None of the numbers is in the paper.

    Attributes:
      strong: name of the generator whose plurality stands for the truth.
      weak: names of the generators that are to learn from the items, or are like those.
      strong_samples: answers of the strong one.
      weak_samples: answers of each weak one.
      min_strong_agreement: least share of the strong one's samples that agree with the truth.
      low: least agreement of the weak ones (their mean); below it an item is too hard.
      high: most agreement of the weak ones; above it an item is too easy.
      min_gap: least difference of the strong agreement and the weak one.
      min_steps: least number of reasoning steps: the median, over the right solutions of the strong one, of their lines
        and sentences.
      answers: "math" or "choice": how answers are found and compared.
      use_gold: whether the gold answer of an item, where there is one, is the truth in place of the plurality.
      instruction: follows the prompt; None for the usual one of that kind of answers.
      skip_domains: items of these domains pass untouched; safety data have a stage of their own.
      batch_size: items asked about at a time.
    """

    strong: str
    weak: tuple[str, ...]
    strong_samples: int = 8
    weak_samples: int = 8
    min_strong_agreement: float = 0.5
    low: float = 0.1
    high: float = 0.8
    min_gap: float = 0.0
    min_steps: int = 2
    answers: str = "math"
    use_gold: bool = False
    instruction: str | None = None
    skip_domains: tuple[str, ...] = ("safety",)
    batch_size: int = 64

    def __post_init__(self):
        check_kind(self.answers, where="teachability.answers", voting=True)
        if not self.strong or not self.weak:
            raise UserError("teachability needs strong, the name of a generator, and weak, at least one name.")
        if min(self.strong_samples, self.weak_samples, self.batch_size) < 1 or self.min_steps < 0:
            raise UserError(
                "teachability needs strong_samples, weak_samples and batch_size of at least 1, and min_steps >= 0."
            )
        if not 0 <= self.low <= self.high <= 1:
            raise UserError(f"teachability needs 0 <= low <= high <= 1, not {self.low:g} and {self.high:g}.")
        if not 0 <= self.min_strong_agreement <= 1 or not -1 <= self.min_gap <= 1:
            raise UserError("teachability needs a min_strong_agreement from 0 to 1 and a min_gap from -1 to 1.")


class TeachabilityStage(AskingStage[TeachabilitySettings]):
    """An ItemStage that keeps the prompts in the band."""

    name = NAME

    def asked(self) -> Sequence[str]:
        """Returns the names of the generators that the settings want asked."""
        return (self._settings.strong, *self._settings.weak)

    def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item; the weak models are asked only where the strong one has a truth."""
        questions = [self._question(item) for item in items]
        answered = self._askers[self._settings.strong](questions, num_samples=self._settings.strong_samples)
        judged = [self._judge_strong(item, samples) for item, samples in zip(items, answered, strict=True)]
        open_ones = [number for number, outcome in enumerate(judged) if outcome.kept]
        asked = {
            name: self._askers[name](
                [questions[number] for number in open_ones], num_samples=self._settings.weak_samples
            )
            for name in self._settings.weak
        }
        for place, number in enumerate(open_ones):
            of_item = {name: samples[place] for name, samples in asked.items()}
            judged[number] = self._judge_weak(judged[number].item, of_item)
        return judged

    def _question(self, item: Item) -> list[Message]:
        instruction = self._settings.instruction
        instruction = INSTRUCTIONS[self._settings.answers] if instruction is None else instruction
        return [{"role": "user", "content": f"{item.prompt}\n\n{instruction}" if instruction else item.prompt}]

    def _judge_strong(self, item: Item, samples: Sequence[Completion]) -> Outcome:
        """Finds the truth of an item, and notes it."""
        lack = shortcoming(samples, "the strong model")
        if lack is not None:
            return failed(item.noted(NAME, said=lack[1]), lack[0])
        settings, texts = self._settings, [sample.text for sample in samples]
        thinking = self._askers[settings.strong].thinking
        answers = answers_of(settings.answers, texts, thinking=thinking, reference=item.answer)
        plurality = vote(settings.answers, answers, self._pool)
        gold = choice_letter(item.answer) if settings.answers == "choice" else item.answer.strip()
        by_gold = settings.use_gold and bool(gold)
        item = item.noted(NAME, **self._plurality(plurality, gold, len(answers)))
        if plurality is None:
            return dropped(item, "no answer of the strong model")
        truth = gold if by_gold else plurality.answer
        agrees = agreeing(settings.answers, answers, truth, self._pool)
        agreement = sum(agrees) / len(agrees)
        steps = [num_steps(text) for text, right in zip(texts, agrees, strict=True) if right]
        item = item.noted(
            NAME,
            truth=truth,
            by="gold" if by_gold else "plurality",
            strong_agreement=agreement,
            steps=statistics.median(steps) if steps else 0,
        )
        if by_gold and agreement < settings.min_strong_agreement:
            return dropped(item, "the strong model disagrees with the gold answer")
        if not by_gold and (agreement < settings.min_strong_agreement or plurality.tied):
            return dropped(item, "the strong model disagrees with itself")
        if item.meta[NAME]["steps"] < settings.min_steps:
            return dropped(item, "too few steps")
        return kept(item)

    def _plurality(self, plurality, gold: str, num_samples: int) -> dict[str, Any]:
        """Returns what is noted of the vote of the strong model."""
        if plurality is None:
            return {"plurality": None, "plurality_share": 0.0, "gold_agrees": None}
        (agrees,) = agreeing(self._settings.answers, [plurality.answer], gold, self._pool) if gold else (None,)
        return {
            "plurality": plurality.answer,
            "plurality_share": plurality.votes / num_samples,
            "gold_agrees": agrees,
        }

    def _judge_weak(self, item: Item, samples: Mapping[str, Sequence[Completion]]) -> Outcome:
        """Keeps an item in the band."""
        settings, found = self._settings, item.meta[NAME]
        agreements = {}
        for name, of_model in samples.items():
            lack = shortcoming(of_model, "a weak model")
            if lack is not None:
                return failed(item.noted(NAME, said=lack[1]), lack[0])
            answers = answers_of(
                settings.answers,
                [sample.text for sample in of_model],
                thinking=self._askers[name].thinking,
                reference=item.answer,
            )
            agrees = agreeing(settings.answers, answers, found["truth"], self._pool)
            agreements[name] = sum(agrees) / len(agrees)
        agreement = statistics.fmean(agreements.values())
        gap = found["strong_agreement"] - agreement
        item = item.noted(NAME, agreement=agreement, of_each=agreements, gap=gap)
        if agreement > settings.high:
            return dropped(item, "too easy")
        if agreement < settings.low:
            return dropped(item, "too hard")
        if gap < settings.min_gap:
            return dropped(item, "no gap between weak and strong")
        return kept(item if item.answer.strip() else dataclasses.replace(item, answer=found["truth"]))


def num_steps(response: str) -> int:
    """Returns how many lines and sentences a solution, or a thought where nothing follows it, has that say anything."""
    parts = split_response(response)
    pieces = _END_OF_STEP.split(parts.solution if parts.solution.strip() else parts.thought)
    return sum(any(character.isalnum() for character in piece) for piece in pieces)
