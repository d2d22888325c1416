"""Decontamination: drops items that contain texts of the evaluation (section 2 of the paper).

The algorithm is that of the Phi-4 report (`phi4r.curation.overlap.overlaps`), against every task of the evaluation and
any file of a user's (`phi4r.curation.overlap.protected_texts`).
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

from phi4r.curation.overlap.common_ngrams import read_allow_list
from phi4r.curation.overlap.index_store import file_states
from phi4r.curation.overlap.overlap_stage import OverlapSettings, OverlapStage
from phi4r.curation.overlap.protected_texts import ProtectedText, place_of, protected_texts
from phi4r.errors import UserError

NAME = "decontamination"


@dataclasses.dataclass(frozen=True)
class DecontaminationSettings(OverlapSettings):
    """What is protected, and when an item is contaminated (`OverlapSettings`).

    Attributes:
      benchmarks: specs of tasks and files, as `phi4r.curation.overlap.protected_texts` reads them.
      with_solutions: whether answers and solutions of tasks are protected too, not only prompts. Not in the paper.
      allow_list: file of long n-grams that condemn nothing, one a line; `phi4r allow-list` writes one.
    """

    benchmarks: tuple[str, ...]
    with_solutions: bool = False
    allow_list: str = ""

    def __post_init__(self):
        if not self.benchmarks:
            raise UserError("decontamination needs benchmarks; name tasks, or files as file:PATH.")
        super().__post_init__()


class Decontamination(OverlapStage[DecontaminationSettings]):
    """The stage: drops with "contaminated: 13-gram" or "contaminated: 7-gram ratio"."""

    reason = "contaminated"

    def __init__(self, settings: DecontaminationSettings, *, name: str = NAME, folder: str | os.PathLike = ""):
        """Reads nothing yet.

        Args:
          settings: what is protected.
          name: of the stage: seeds are looked at before models are asked, and what these wrote once more at the end.
          folder: where the index is kept, for other processes and later runs; empty for nowhere.
        """
        super().__init__(name, settings, folder=folder)

    def texts(self) -> Iterator[ProtectedText]:
        """Yields the texts of the benchmarks.

        Raises:
          UserError: for a bad spec, or data that cannot be had.
        """
        return protected_texts(self.settings.benchmarks, with_solutions=self.settings.with_solutions)

    def key(self) -> dict[str, Any]:
        """Returns the specs with the states of their files, and the allow-list."""
        return {
            "benchmarks": [[spec, file_states(place_of(spec))] for spec in self.settings.benchmarks],
            "with_solutions": self.settings.with_solutions,
            "allowed": list(self.allowed()),
        }

    def allowed(self) -> Sequence[str]:
        """Returns the n-grams of the allow-list.

        Raises:
          UserError: if it cannot be read.
        """
        return read_allow_list(self.settings.allow_list) if self.settings.allow_list else ()
