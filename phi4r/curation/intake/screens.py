"""Screens: prompts that are of another language, too short or long, or of poor quality, by simple rules.

    too short, too long    words, characters, or tokens of a tokenizer
    language               of what is neither formula nor code, where there is enough of it to tell
    few letters            tables, dumps of numbers, lists of marks
    repetition             the same three words again and again
    links                  more links than a prompt has need of
    placeholder            text that somebody was to fill in

The first rule that an item breaks is its reason. Words and language of every item are noted.
"""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome, dropped, kept
from phi4r.errors import UserError
from phi4r.verifiers.instructions.detection import LANGUAGES, detected_language

NAME = "screens"

_FORMULA = re.compile(
    r"\[asy\].*?\[/asy\]|```.*?```|\$\$.*?\$\$|\$[^$]*\$|\\\[.*?\\\]|\\\(.*?\\\)|\\[a-zA-Z]+", re.DOTALL
)
_LINK = re.compile(r"https?://|www\.")


@dataclasses.dataclass(frozen=True)
class ScreenSettings:
    """What a prompt may be like. None of it is in the paper.

    Attributes:
      languages: codes of ISO 639-1 that are let through; empty lets all. What has too few letters is let through, too.
      language_letters: letters outside formulas and code from which on the language is told; of fewer it is a guess.
      min_words: fewest words, which are what stands between blanks.
      max_words: most words, 0 for no limit.
      min_characters: fewest characters.
      max_characters: most characters, 0 for no limit.
      tokenizer: folder of a model whose tokens are counted for max_tokens.
      max_tokens: most tokens of a prompt, 0 for no limit.
      min_letters: least share of letters among the characters that are not blank.
      max_repetition: largest share of the runs of three words that were there before; told from 20 words on.
      max_links: most links.
      placeholders: regular expressions that nothing in a prompt may match.
      batch_size: items at a time.
    """

    languages: tuple[str, ...] = ("en",)
    language_letters: int = 25
    min_words: int = 3
    max_words: int = 2000
    min_characters: int = 20
    max_characters: int = 0
    tokenizer: str = ""
    max_tokens: int = 0
    min_letters: float = 0.3
    max_repetition: float = 0.5
    max_links: int = 1
    placeholders: tuple[str, ...] = (
        r"(?i)lorem ipsum",
        r"(?i)\[(insert|your|todo|image|figure|redacted)\b[^\]]*\]",
        r"(?i)<(insert|your)\b[^>]*>",
        r"\bTODO\b",
        r"\bTBD\b",
        "\ufffd",
    )
    batch_size: int = 256

    def __post_init__(self):
        unknown = next((code for code in self.languages if code not in LANGUAGES), None)
        if unknown is not None:
            raise UserError(f"screens.languages has {unknown!r}; those that can be told are {', '.join(LANGUAGES)}.")
        for expression in self.placeholders:
            try:
                re.compile(expression)
            except re.error as error:
                raise UserError(f"screens.placeholders: {expression!r} is no regular expression ({error}).") from error
        if self.max_tokens and not self.tokenizer:
            raise UserError("screens.max_tokens needs screens.tokenizer, the folder of a model.")
        if self.batch_size < 1:
            raise UserError(f"screens.batch_size={self.batch_size} must be at least 1.")


class Screens:
    """An ItemStage."""

    name = NAME

    def __init__(self, settings: ScreenSettings):
        """Opens the tokenizer, if there is one.

        Raises:
          UserError: for a folder without one.
        """
        self.batch_size = settings.batch_size
        self._settings = settings
        self._placeholders = [re.compile(expression) for expression in settings.placeholders]
        self._tokenizer: Any = None
        if settings.max_tokens:
            from phi4r.text.tokenizer import load_tokenizer

            self._tokenizer = load_tokenizer(settings.tokenizer)

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item."""
        return [self._screen(item) for item in items]

    def _screen(self, item: Item) -> Outcome:
        settings = self._settings
        language = language_of(item.prompt, settings.language_letters)
        item = item.noted(self.name, words=len(item.prompt.split()), language=language)
        if reason := self._wrong_length(item.prompt):
            return dropped(item, reason)
        if settings.languages and language is not None and language not in settings.languages:
            return dropped(item, "language")
        if letter_share(item.prompt) < settings.min_letters:
            return dropped(item, "few letters")
        if repetition(item.prompt) > settings.max_repetition:
            return dropped(item, "repetition")
        if len(_LINK.findall(item.prompt)) > settings.max_links:
            return dropped(item, "links")
        found = next(filter(None, (pattern.search(item.prompt) for pattern in self._placeholders)), None)
        return kept(item) if found is None else dropped(item.noted(self.name, found=found[0]), "placeholder")

    def _wrong_length(self, prompt: str) -> str:
        settings, num_words = self._settings, len(prompt.split())
        if num_words < settings.min_words or len(prompt) < settings.min_characters:
            return "too short"
        if 0 < settings.max_words < num_words or 0 < settings.max_characters < len(prompt):
            return "too long"
        if self._tokenizer is not None and len(self._tokenizer.encode(prompt)) > settings.max_tokens:
            return "too long"
        return ""


@functools.lru_cache(maxsize=4096)
def language_of(prompt: str, min_letters: int) -> str | None:
    """Returns the language of what is neither formula nor code; None where that has fewer letters."""
    prose = _FORMULA.sub(" ", prompt)
    return detected_language(prose) if sum(map(str.isalpha, prose)) >= min_letters else None


def letter_share(prompt: str) -> float:
    """Returns the share of letters among the characters that are not blank; 0 of nothing."""
    characters = [character for character in prompt if not character.isspace()]
    return sum(map(str.isalpha, characters)) / max(len(characters), 1)


def repetition(prompt: str) -> float:
    """Returns the share of the runs of three words that are not the first of their kind; 0 below 20 words."""
    words = prompt.casefold().split()
    if len(words) < 20:
        return 0.0
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(runs)) / len(runs)
