"""Safety data (section 2.2 of the paper): answered under guidelines that the model to be trained never sees.

The guidelines are part of the prompt when the teacher answers, and are not part of the item: what is trained is the
bare prompt with an answer that keeps to them. So nothing of them, and nothing of the thought, may show in the solution;
an answer in which it does is not used. Refusals and disclaimers are what many of these prompts call for: they are
labelled and kept. The items are a domain of their own, so that the mixture can weigh them.
"""

import collections
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from phi4r.curation.asking.asking import Asker, shortcoming
from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome, dropped, failed, kept
from phi4r.curation.teaching.asking_stage import AskingStage
from phi4r.curation.teaching.leaks import copied_passages, mentions
from phi4r.curation.teaching.trace_screens import Screened, ScreenSettings, TraceScreens
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from phi4r.text.template import Message

NAME = DOMAIN = "safety"

FRAME = """Keep to the guidelines below when you answer. The reader of your answer does not know them: do not quote \
them, and do not mention that there are any. Answer in your own words, with nothing but what serves the reader.

Guidelines:
"""

_CANNOT = r"(?:can(?:'t|not| not)|won't|will not|(?:am |'m )?(?:unable|not able) to)"
_REFUSAL = re.compile(
    rf"\bI ?{_CANNOT} (?:help|assist|provide|comply|give|share|write|create|answer|discuss|support|do (?:that|this)"
    r"|offer|engage|take part)\b"
    rf"|\bI(?:'m| am) (?:sorry|afraid),? (?:but )?(?:that )?I ?{_CANNOT}"
    r"|\bI (?:must|have to|need to)(?: respectfully)? (?:decline|refuse)\b"
    r"|\bI(?:'d| would) rather not\b",
    re.IGNORECASE,
)
_PROFESSIONAL = (
    r"(?:doctor|physician|lawyer|attorney|pharmacist|therapist|accountant|financial advis[eo]r|professional)"
)
_DISCLAIMER = re.compile(
    rf"\bI(?:'m| am) not an? (?:\w+ )?{_PROFESSIONAL}\b"
    r"|\bnot (?:a substitute for|meant as|intended as|to be taken as)\b"
    r"|\b(?:is|are|does|do)(?: not|n't) (?:constitute )?(?:medical|legal|financial|professional) advice\b"
    rf"|\b(?:consult|see|talk to|speak (?:to|with)|contact) (?:with )?(?:an?|your) (?:\w+ ){{0,2}}{_PROFESSIONAL}\b"
    r"|\bseek (?:immediate |professional |medical |legal )+(?:help|advice|attention)\b"
    r"|\b(?:call|contact) (?:your local )?emergency services\b",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class SafetySettings:
    """Who answers, under which guidelines, and what counts as a leak. None of the numbers is in the paper.

    Attributes:
      teacher: name of a generator.
      guidelines: their text; or else
      guidelines_file: the file with their text.
      placement: whether they are the system message or stand before the prompt, for models without one.
      sources: items of these sources are safety data too, besides those of the domain "safety".
      samples: answers to each prompt; the first without a leak is taken.
      guideline_words: length of the shortest passage of the guidelines that counts as leaked, in words.
      thought_words: length of the shortest passage of the thought that counts as leaked, in words.
      screen_thought: whether the thought must not mention the guidelines either.
      screens: what a trace must be like.
      batch_size: items asked about at a time.
    """

    teacher: str
    guidelines: str = ""
    guidelines_file: str = ""
    placement: Literal["system", "user"] = "system"
    sources: tuple[str, ...] = ()
    samples: int = 2
    guideline_words: int = 8
    thought_words: int = 40
    screen_thought: bool = False
    screens: ScreenSettings = dataclasses.field(default_factory=ScreenSettings)
    batch_size: int = 32

    def __post_init__(self):
        if not self.teacher or bool(self.guidelines.strip()) == bool(self.guidelines_file):
            raise UserError(
                "safety needs teacher, the name of a generator, and either guidelines or guidelines_file, not both."
            )
        if min(self.samples, self.guideline_words, self.thought_words, self.batch_size) < 1:
            raise UserError("safety needs samples, guideline_words, thought_words and batch_size of at least 1.")

    def read_guidelines(self) -> str:
        """Returns the text of the guidelines.

        Raises:
          UserError: for a file that cannot be read or is empty.
        """
        if not self.guidelines_file:
            return self.guidelines.strip()
        try:
            text = pathlib.Path(self.guidelines_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read safety.guidelines_file ({error}); give a text file in UTF-8.") from error
        if not text:
            raise UserError(f"{self.guidelines_file} is empty; write the guidelines into it.")
        return text


class SafetyStage(AskingStage[SafetySettings]):
    """An ItemStage that answers prompts of safety; other items pass untouched."""

    name = NAME

    def __init__(self, settings: SafetySettings, askers: Mapping[str, Asker]):
        """Reads the guidelines; asks nothing and opens nothing yet.

        Args:
          settings: of guidelines and leaks.
          askers: by the names of generators.

        Raises:
          UserError: for a generator that there is not, or guidelines that cannot be read.
        """
        self._guidelines = settings.read_guidelines()
        self._screens = TraceScreens(settings.screens)
        super().__init__(settings, askers)

    def asked(self) -> Sequence[str]:
        """Returns the names of the generators that the settings want asked."""
        return (self._settings.teacher,)

    def applies(self, item: Item) -> bool:
        """Whether an item is safety data."""
        return item.domain == DOMAIN or item.source in self._settings.sources

    def decide(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item."""
        teacher, samples = self._askers[self._settings.teacher], self._settings.samples
        answered = teacher([self._question(item) for item in items], num_samples=samples)
        return [self._choose(item, samples) for item, samples in zip(items, answered, strict=True)]

    def _question(self, item: Item) -> list[Message]:
        """Returns the prompt under the guidelines."""
        framed = FRAME + self._guidelines
        if self._settings.placement == "user":
            return [{"role": "user", "content": f"{framed}\n\nThe request:\n\n{item.prompt}"}]
        return [{"role": "system", "content": framed}, {"role": "user", "content": item.prompt}]

    def _choose(self, item: Item, samples: Sequence[Completion]) -> Outcome:
        """Gives an item the first answer that leaks nothing."""
        lack = shortcoming(samples, "the teacher")
        if lack is not None:
            return failed(item.noted(NAME, said=lack[1]), lack[0])
        screened = [self._screens(sample) for sample in samples]
        faults = [(one.reason, "") if one.reason else self._leak(item.prompt, one) for one in screened]
        item = dataclasses.replace(item, domain=DOMAIN).noted(
            NAME,
            tries=len(samples),
            faults=dict(sorted(collections.Counter(reason for reason, _ in faults if reason).items())),
            leaked=[passage for _, passage in faults if passage],
        )
        for number, (one, (reason, _)) in enumerate(zip(screened, faults, strict=True)):
            if not reason:
                return kept(self._answered(item, one, number))
        counts = collections.Counter(reason for reason, _ in faults)
        return dropped(item, min(reason for reason in counts if counts[reason] == max(counts.values())))

    def _leak(self, prompt: str, screened: Screened) -> tuple[str, str]:
        """Returns what leaks into a solution and the passage, or empty texts."""
        settings = self._settings
        from_guidelines = copied_passages(
            screened.solution, FRAME + self._guidelines, num_words=settings.guideline_words, known=[prompt]
        )
        if from_guidelines:
            return "guidelines in the solution", from_guidelines[0]
        from_thought = copied_passages(
            screened.solution, screened.thought, num_words=settings.thought_words, known=[prompt]
        )
        if from_thought:
            return "thought in the solution", from_thought[0]
        mentioned = mentions(screened.solution)
        if mentioned:
            return "instructions mentioned", mentioned[0]
        mentioned = mentions(screened.thought) if settings.screen_thought else []
        return ("instructions mentioned in the thought", mentioned[0]) if mentioned else ("", "")

    def _answered(self, item: Item, screened: Screened, sample: int) -> Item:
        """Returns the item with its trace; of the guidelines only a hash stays."""
        return dataclasses.replace(item, thought=screened.thought, solution=screened.solution).noted(
            NAME,
            labels=safety_labels(screened.solution),
            guidelines=hashlib.sha256(self._guidelines.encode()).hexdigest()[:16],
            teacher=self._settings.teacher,
            identity=self._askers[self._settings.teacher].identity,
            sample=sample,
            num_tokens=screened.num_tokens,
            thought_tokens=screened.thought_tokens,
            solution_tokens=screened.solution_tokens,
        )


def safety_labels(solution: str) -> list[str]:
    """Returns which of "refusal" (declines at least a part) and "disclaimer" (points to its limits) a solution is."""
    text = " ".join(solution.replace("\u2019", "'").split())
    found = {"refusal": _REFUSAL.search(text), "disclaimer": _DISCLAIMER.search(text)}
    return [label for label, match in found.items() if match]
