r"""The verifier of multiple-choice questions: GPQA, MMLU-Pro, Maze, SpatialMap.

A choice is a letter, or the whole text of an option. It is looked for after the last `</think>`, in this order:

    the last balanced \boxed{...}                       B   (b)   \text{(B)}   B. the text   the text
    the last "answer is", "Answer:", "option is" ...    (B)   **B**   B, because ...   the text
    the last "option B", "choice (B)"
    the whole solution, where it is nothing but a choice

Two letters ("A or B"), or a letter beside the text of another option, are no answer.
"""

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from phi4r.verifiers.answers import END_OF_THOUGHT, last_box
from phi4r.verifiers.verdict import Verdict, failed, judged, unanswered

_LETTERS = string.ascii_uppercase
_MAX_LENGTH = 8000  # characters of a choice that are looked at; no option is that long

_COMMANDS = r"\\(?:text(?:bf|it|rm|sf)?|math(?:rm|bf|sf|it)|operatorname|boxed|fbox|left|right)(?![A-Za-z])"
_MARKUP = re.compile(rf"{_COMMANDS}|\\[()\[\]]|\\(?=[$%&#_])|[*`\"${{}}\u2018\u2019\u201c\u201d]")
_SPACES = re.compile(r"(?:\\[,;:! ]|[~\s])+")
_FILLERS = frozenset({"or", "and", "both", "either", "option", "options", "choice", "choices", "letter", "answer"})

_ANNOUNCED = re.compile(
    r"\b(?:answer|option|choice)[*_`]{0,3}\s{0,3}(?::|=|is\b(?!\s+not\b):?)|\bfinal answer[*_`]{0,3}\s{0,3}\n",
    re.IGNORECASE,
)
_MENTIONED = re.compile(r"(?<!not )\b(?i:options?|choices?)\b[\s*_`(\[\"$:]{0,4}(?=[A-HJ-Z]\b|I\b(?!\s+\w)|I\s+is\b)")
# A letter with its text: "B. the text", "(B) the text", "B) the text", "B: the text", "B - the text".
_LABELLED = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:,]|\s[-\u2013\u2014])+\s*(.+)", re.DOTALL)
# A letter at the start of a sentence that goes on. "A" and "I" are words too: something must show that they are not.
_LEADING = re.compile(
    r"(?i:(?:most )?(?:therefore|thus|hence|then|clearly|indeed|likely|probably),? )?"
    r"(?i:(?:option|choice|letter) )?[(\[]?"
    r"([B-HJ-Z]\b(?!['-]\w)|[AI](?=[)\].:;,!]| ?$| [-\u2013\u2014(]| (?:because|since|as|for|or|and|which|given)\b))"
)
_ANOTHER = re.compile(r"[)\].]?\s*(?:/|\b(?:and/or|or|and)\b)\s*(?:(?:option|choice) )?[(\[]?([A-Z])\b")
_LABELLED_LATER = re.compile(r"\b(?:or|and) (?:(?:option|choice) )?[(\[]?([A-Z])[)\].:]")


@dataclass(frozen=True)
class ChoiceVerifier:
    """Judges the chosen option of a multiple-choice question.

    The reference is a letter, or JSON with the options in the order of their letters: `{"letter": "B", "options":
    ["red", "blue"]}`. With options, a letter beyond the last one is wrong and the text of an option counts as its
    letter. `Verdict.answer` is the letter; text that is no choice is kept as it was written.

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
    """

    thinking: bool = False

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict, in time linear in the response; a reference of another form is an "error"."""
        question = _read_reference(reference)
        if question is None:
            return failed("error")
        letter, options = question
        _, closed, solution = response.rpartition(END_OF_THOUGHT)
        if self.thinking and not closed:
            return unanswered()
        written, chosen = _find(solution, options)
        if not written or len(chosen) > 1:
            return unanswered()
        if not chosen:
            return judged(written, False)
        (choice,) = chosen
        return judged(choice, choice == letter)

    def quick(self, response: str, reference: str) -> Verdict:
        """Returns the verdict: every one is cheap."""
        return self(response, reference)

    def warm_up(self) -> None:
        """Has nothing to load."""


def _read_reference(reference: str) -> tuple[str, tuple[str, ...]] | None:
    """Returns the right letter and the options (none known: empty), or None for a malformed reference."""
    reference = reference.strip()
    if len(reference) == 1 and reference.upper() in _LETTERS:
        return reference.upper(), ()
    try:
        question = json.loads(reference)
    except (ValueError, RecursionError):
        return None
    if not isinstance(question, dict):
        return None
    letter, options = question.get("letter"), question.get("options")
    if not isinstance(letter, str) or not isinstance(options, list) or len(options) > len(_LETTERS):
        return None
    if len(letter) != 1 or letter not in _LETTERS[: len(options)] or not all(isinstance(o, str) for o in options):
        return None
    return letter, tuple(options)


def _find(solution: str, options: Sequence[str]) -> tuple[str | None, frozenset[str]]:
    """Returns the answer as written, or None, and the letters it chooses: none if it is no choice."""
    box = last_box(solution)
    if box is not None:
        return box, _read(box, options)
    mention = _last(_MENTIONED, solution)
    announcement = _last(_ANNOUNCED, solution)
    if announcement is not None:
        tail = solution[announcement.end() :][:_MAX_LENGTH].strip()
        chosen = _read_start(tail, options)
        # "The answer is found by elimination. [...] So option B": what cannot be read yields to what comes after it.
        if chosen or mention is None or mention.end() < announcement.end():
            return tail.split("\n", 1)[0], chosen
    if mention is not None:
        choice, rest = solution[mention.end()], solution[mention.end() + 1 :][:_MAX_LENGTH]
        return choice, _with_another(choice, rest)
    line = solution.strip()
    chosen = frozenset() if "\n" in line else _read(line, options)
    return line if chosen else None, chosen


def _read(text: str, options: Sequence[str]) -> frozenset[str]:
    """Returns the letters that a text chooses which is to be a choice and nothing else."""
    if len(text) > _MAX_LENGTH:
        return frozenset()
    plain = _plain(text)
    words = re.findall(r"\w+", plain)
    letters = frozenset(word.upper() for word in words if len(word) == 1 and word.upper() in _LETTERS)
    only_letters = bool(letters) and all(word.upper() in letters or word.lower() in _FILLERS for word in words)
    if only_letters and letters <= frozenset(_LETTERS[: len(options)] or _LETTERS):
        return letters
    named = _named(text, options)
    if named or only_letters:
        return named or letters
    label = _LABELLED.fullmatch(plain)
    return _read_labelled(label[1].upper(), label[2], options) if label else frozenset()


def _read_labelled(letter: str, text: str, options: Sequence[str]) -> frozenset[str]:
    """Returns what "B. the text" chooses: B, unless the text is that of another option or goes on to one."""
    named = _named(text, options)
    if named:
        return named | {letter}
    return _with_another(letter, text).union(_LABELLED_LATER.findall(text))


def _read_start(text: str, options: Sequence[str]) -> frozenset[str]:
    """Returns the letters that the start of a text chooses, whatever follows."""
    line = text.split("\n", 1)[0].strip()
    for part in (line, re.split(r"[.;]\s", line, maxsplit=1)[0]):
        chosen = _read(part.rstrip(".!"), options)
        if chosen:
            return chosen
    plain = _plain(line)
    leading = _LEADING.match(plain)
    return _with_another(leading[1], plain[leading.end() :]) if leading else frozenset()


def _with_another(letter: str, rest: str) -> frozenset[str]:
    """Returns a letter with the one that the text after it adds, as in "A or B"."""
    another = _ANOTHER.match(_plain(rest))
    return frozenset({letter, another[1]} if another else {letter})


def _named(text: str, options: Sequence[str]) -> frozenset[str]:
    """Returns the letter of the one option whose text this is, up to markup, case and a full stop; else nothing."""
    for form in (str.strip, _plain, _comparable):
        wanted = form(text)
        same = [letter for letter, option in zip(_LETTERS, options, strict=False) if form(option) == wanted]
        if len(same) == 1:
            return frozenset(same)
    return frozenset()


def _comparable(text: str) -> str:
    return _plain(text).casefold().rstrip(".").rstrip()


def _plain(text: str) -> str:
    """Returns a text without the markup of Markdown and LaTeX."""
    return _SPACES.sub(" ", _MARKUP.sub("", text)).strip()


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    match = None
    for match in pattern.finditer(text):  # noqa: B007  the last one is wanted
        pass
    return match
