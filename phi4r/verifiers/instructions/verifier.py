"""The verifier of IFEval: which instructions of a prompt a response follows, to the letter and loosely."""

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from phi4r.errors import UserError
from phi4r.verifiers.answers import END_OF_THOUGHT
from phi4r.verifiers.instructions.detection import NoDetectorError
from phi4r.verifiers.instructions.table import Instruction, read_instructions
from phi4r.verifiers.verdict import Verdict, failed, judged

_MAX_LENGTH = 1_000_000  # characters; who writes more follows nothing


@dataclass(frozen=True)
class InstructionVerifier:
    """Judges whether a response follows the instructions of its prompt.

    The reference is JSON: {"instruction_id_list", "kwargs", "prompt"}, as a row of the data has them. `correct` says
    whether all are followed to the letter; `score` is the share that is. Loosely an instruction is followed if one of
    eight versions of the response follows it: without stars, without its first line, without its last, or any
    combination. `parts` of a verdict has

        prompt_strict, prompt_loose              1.0 if all instructions are followed
        instructions                             how many the prompt has
        instructions_strict, instructions_loose  how many are followed
        number/FAMILY, strict/FAMILY             of one family: how many there are, how many are followed strictly

    and has them for a response without an answer too, which follows nothing.

    It needs no worker, since every check takes bounded time, and a worker must not write the file through which the
    language detector loads.

    Attributes:
      thinking: whether the model thinks first; then a response without `</think>` was cut off and has no answer.
      compat: whether the quirks of the published scorer are reproduced, for comparison with published results; each is
        named in the docstring of its check.
    """

    limits_itself: ClassVar[Literal[True]] = True

    thinking: bool = False
    compat: bool = False

    def __call__(self, response: str, reference: str) -> Verdict:
        """Returns the verdict; a reference that is no list of instructions is an "error".

        Raises:
          NoDetectorError: if the language has to be detected and the library for it is not installed.
        """
        try:
            instructions = _instructions(reference, self.compat)
            answer = self._answer(response)
            if not answer or len(answer) > _MAX_LENGTH:
                return Verdict(False, 0.0, None, "no_answer", _parts(instructions, (), ()))
            strict = [instruction.check(answer) for instruction in instructions]
            versions = _versions(answer)
            loose = [
                followed or any(instruction.check(version) for version in versions)
                for instruction, followed in zip(instructions, strict, strict=True)
            ]
        except NoDetectorError:
            raise
        except Exception:  # a verifier never raises: whatever broke is reported as an error of the judge
            return failed("error")
        return judged(answer, all(strict), score=sum(strict) / len(strict), parts=_parts(instructions, strict, loose))

    def _answer(self, response: str) -> str:
        """Returns what follows the thought, empty for a response that was cut off within it."""
        _, closed, solution = response.rpartition(END_OF_THOUGHT)
        return "" if self.thinking and not closed else solution.strip()


@functools.lru_cache(4096)
def _instructions(reference: str, compat: bool) -> tuple[Instruction, ...]:
    """Reads a reference.

    Raises:
      UserError: if it is malformed.
    """
    try:
        row = json.loads(reference)
        return read_instructions(row["instruction_id_list"], row["kwargs"], compat=compat)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError("the reference is no JSON object with 'instruction_id_list' and 'kwargs'.") from error


def _versions(answer: str) -> list[str]:
    """Returns the versions of an answer that a loose check looks at besides the answer itself."""
    lines = answer.split("\n")
    parts = (lines, lines[1:], lines[:-1], lines[1:-1])
    cut = ["\n".join(part).strip() for part in parts]
    versions = dict.fromkeys([*cut, *(version.replace("*", "") for version in cut)])
    return [version for version in versions if version.strip() and version != answer]


def _parts(instructions: Sequence[Instruction], strict: Sequence[bool], loose: Sequence[bool]) -> dict[str, float]:
    """Returns the parts of a verdict; nothing is followed where there is no answer."""
    followed = Counter(instruction.family for instruction, yes in zip(instructions, strict, strict=False) if yes)
    parts = {
        "prompt_strict": float(sum(strict) == len(instructions)),
        "prompt_loose": float(sum(loose) == len(instructions)),
        "instructions": float(len(instructions)),
        "instructions_strict": float(sum(strict)),
        "instructions_loose": float(sum(loose)),
    }
    for family, number in Counter(instruction.family for instruction in instructions).items():
        parts[f"number/{family}"] = float(number)
        parts[f"strict/{family}"] = float(followed[family])
    return parts
