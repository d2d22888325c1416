"""Screens of teacher traces: a response becomes a thought and a solution, or it is told why not.

What is looked at, in this order: the response was finished; it has exactly one think block, with nothing before it; its
thought and its solution are not empty; neither too short nor too long; both in the language that is wanted.
"""

import dataclasses
import functools
import re

from phi4r.curation.asking.asking import REFUSED
from phi4r.errors import UserError
from phi4r.sampling.generator import Completion
from phi4r.text.thinking import split_response, think_format_ok
from phi4r.text.tokenizer import THINK, Tokenizer, load_tokenizer
from phi4r.verifiers.instructions.detection import LANGUAGES, detected_language

_NOT_PROSE = re.compile(
    r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|\\\[.*?\\\]|\\\(.*?\\\)|\\boxed\{(?:[^{}]|\{[^{}]*\})*\}|\\[a-zA-Z]+", re.DOTALL
)


@dataclasses.dataclass(frozen=True)
class ScreenSettings:
    """What a trace must be like. None of the numbers is in the paper.

    Attributes:
      tokenizer: folder of the tokenizer that counts tokens, that of the model to be trained; empty to take the
        teacher's own count of the whole response.
      min_tokens: least tokens of thought and solution together.
      max_tokens: most; 32,768 less room for system message and prompt is what fits into the paper's rows.
      language: ISO 639-1 code of the language of thought and solution, as "en"; empty for any.
      require_thought: whether a trace needs a think block with something in it.
    """

    tokenizer: str = ""
    min_tokens: int = 0
    max_tokens: int = 31_000
    language: str = ""
    require_thought: bool = True

    def __post_init__(self):
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise UserError(f"screens need 0 <= min_tokens <= max_tokens, not {self.min_tokens} and {self.max_tokens}.")
        if self.language and self.language not in LANGUAGES:
            raise UserError(f"language={self.language!r} is not one of {', '.join(LANGUAGES)}.")


@dataclasses.dataclass(frozen=True)
class Screened:
    """What was found in a response.

    Attributes:
      thought: without its tags and the blanks around it.
      solution: what follows it, without the blanks around it.
      num_tokens: of both together.
      thought_tokens: of the thought; None without a tokenizer, as then nobody knows.
      solution_tokens: of the solution; likewise.
      reason: why it is no trace; empty where it is one.
    """

    thought: str
    solution: str
    num_tokens: int = 0
    thought_tokens: int | None = None
    solution_tokens: int | None = None
    reason: str = ""


class TraceScreens:
    """Takes responses apart and screens them."""

    def __init__(self, settings: ScreenSettings):
        """Opens the tokenizer when it is first needed."""
        self._settings = settings

    def __call__(self, completion: Completion) -> Screened:
        """Returns the thought and the solution of an answer, with the reason why it is no trace, if it is none.

        The blanks around both are dropped: teachers who write their thought between tags put some there, and servers
        that hold the thought apart do not.
        """
        parts = split_response(completion.text)
        thought, solution = parts.thought.strip(), parts.solution.strip()
        reason = self._form(completion, thought, solution)
        if reason:
            return Screened(thought, solution, reason=reason)
        screened = self._counted(completion, thought, solution)
        if screened.num_tokens > self._settings.max_tokens:
            return dataclasses.replace(screened, reason="too long")
        if screened.num_tokens < self._settings.min_tokens:
            return dataclasses.replace(screened, reason="too short")
        if not all(self._in_language(text) for text in (thought, solution)):
            return dataclasses.replace(screened, reason="another language")
        return screened

    def _form(self, completion: Completion, thought: str, solution: str) -> str:
        if completion.finish_reason == REFUSED:
            return "refused by the server"
        if completion.finish_reason == "length":
            return "cut off"
        thinks = "<think" in completion.text or "</think" in completion.text
        if thinks or self._settings.require_thought:
            if not think_format_ok(completion.text) or not completion.text.lstrip().startswith(THINK):
                return "not one think block"
            if not thought:
                return "empty thought"
        return "" if solution else "empty solution"

    def _counted(self, completion: Completion, thought: str, solution: str) -> Screened:
        if not self._settings.tokenizer:
            return Screened(thought, solution, completion.num_tokens)
        of_thought, of_solution = (len(self._tokenizer.encode(text)) for text in (thought, solution))
        return Screened(thought, solution, of_thought + of_solution, of_thought, of_solution)

    def _in_language(self, text: str) -> bool:
        """Whether the prose of a text is in the language, as far as it is enough to tell."""
        language = self._settings.language
        return not language or detected_language(_NOT_PROSE.sub(" ", text)) in (language, None)

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return load_tokenizer(self._settings.tokenizer)
