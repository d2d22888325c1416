"""All types of instruction by id, and how those of a prompt are read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phi4r.errors import UserError
from phi4r.verifiers.instructions import (
    change_case,
    combination,
    detectable_content,
    detectable_format,
    keywords,
    language,
    length_constraints,
    punctuation,
    startend,
)
from phi4r.verifiers.instructions.arguments import Arguments, Check

INSTRUCTIONS: Mapping[str, Callable[[Arguments], Check]] = {
    "keywords:existence": keywords.existence,
    "keywords:frequency": keywords.frequency,
    "keywords:forbidden_words": keywords.forbidden_words,
    "keywords:letter_frequency": keywords.letter_frequency,
    "language:response_language": language.response_language,
    "length_constraints:number_sentences": length_constraints.number_sentences,
    "length_constraints:number_paragraphs": length_constraints.number_paragraphs,
    "length_constraints:number_words": length_constraints.number_words,
    "length_constraints:nth_paragraph_first_word": length_constraints.nth_paragraph_first_word,
    "detectable_content:number_placeholders": detectable_content.number_placeholders,
    "detectable_content:postscript": detectable_content.postscript,
    "detectable_format:number_bullet_lists": detectable_format.number_bullet_lists,
    "detectable_format:constrained_response": detectable_format.constrained_response,
    "detectable_format:number_highlighted_sections": detectable_format.number_highlighted_sections,
    "detectable_format:multiple_sections": detectable_format.multiple_sections,
    "detectable_format:json_format": detectable_format.json_format,
    "detectable_format:title": detectable_format.title,
    "combination:two_responses": combination.two_responses,
    "combination:repeat_prompt": combination.repeat_prompt,
    "startend:end_checker": startend.end_checker,
    "startend:quotation": startend.quotation,
    "change_case:capital_word_frequency": change_case.capital_word_frequency,
    "change_case:english_capital": change_case.english_capital,
    "change_case:english_lowercase": change_case.english_lowercase,
    "punctuation:no_comma": punctuation.no_comma,
}

FAMILIES: tuple[str, ...] = tuple(dict.fromkeys(name.partition(":")[0] for name in INSTRUCTIONS))


@dataclass(frozen=True)
class Instruction:
    """One instruction of a prompt.

    Attributes:
      name: its id, "family:type".
      check: whether a text follows it.
    """

    name: str
    check: Check

    @property
    def family(self) -> str:
        """The group of types that it belongs to."""
        return self.name.partition(":")[0]


def read_instructions(names: Any, arguments: Any, *, compat: bool = False) -> tuple[Instruction, ...]:
    """Reads the instructions of a prompt.

    Args:
      names: `instruction_id_list` of a row, ids of `INSTRUCTIONS`.
      arguments: `kwargs` of the row, a mapping for each id.
      compat: whether the published scorer's quirks are reproduced.

    Raises:
      UserError: for an unknown id, a missing or malformed argument, or lists of unequal length.
    """
    if not _is_list(names) or not _is_list(arguments) or not names or len(names) != len(arguments):
        raise UserError("'instruction_id_list' and 'kwargs' must be lists of equal length that are not empty.")
    return tuple(_read(name, values, compat) for name, values in zip(names, arguments, strict=True))


def _read(name: Any, values: Any, compat: bool) -> Instruction:
    if not isinstance(name, str) or name not in INSTRUCTIONS:
        raise UserError(f"unknown instruction {str(name)[:80]!r}; the known ones are {', '.join(INSTRUCTIONS)}.")
    if not isinstance(values, Mapping):
        raise UserError(f"the 'kwargs' of instruction {name} must be an object with keys, not {str(values)[:60]!r}.")
    return Instruction(name, INSTRUCTIONS[name](Arguments(name, values, compat)))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
