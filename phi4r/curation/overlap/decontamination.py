"""Decontamination: drops items that contain texts of the evaluation (section 2 of the paper).

The algorithm is that of the Phi-4 report (`phi4r.curation.overlap.overlaps`), against every task of the evaluation and
any file of a user's (`phi4r.curation.overlap.protected_texts`).
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Literal

from phi4r.curation.item import Item
from phi4r.curation.overlap.common_ngrams import read_allow_list
from phi4r.curation.overlap.index_building import TemplateRule, build_index
from phi4r.curation.overlap.index_store import file_states, stored_index
from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.overlap_outcomes import TEXT_FIELDS, overlap_outcomes
from phi4r.curation.overlap.overlaps import Thresholds
from phi4r.curation.overlap.protected_texts import place_of, protected_texts
from phi4r.curation.stage import Outcome
from phi4r.errors import UserError

NAME = "decontamination"


@dataclasses.dataclass(frozen=True)
class DecontaminationSettings:
    """What is protected, and when an item is contaminated. Sizes of n-grams are those of section 3, point 6.

    Attributes:
      benchmarks: specs of tasks and files, as `phi4r.curation.overlap.protected_texts` reads them.
      fields: of an item that are looked at, each by itself.
      with_solutions: whether answers and solutions of tasks are protected too, not only prompts. Not in the paper.
      long_ngram: words of an n-gram of which one in common condemns.
      short_ngram: words of the n-grams that the ratio counts.
      contaminated_ratio: from this ratio on an item is contaminated. Not in the paper.
      partial_ratio: above this ratio it is partly contaminated. Not in the paper.
      partial: whether to keep such an item or to drop it; it is noted in either case. Not in the paper.
      allow_list: file of long n-grams that condemn nothing, one a line (`phi4r.curation.overlap.common_ngrams`).
      template_texts: an n-gram that so many texts of a benchmark have is its template, and not protected; 0 for none.
        Not in the paper.
      template_share: and at least this share of them has it. Not in the paper.
      batch_size: items that are looked at together.
    """

    benchmarks: tuple[str, ...]
    fields: tuple[str, ...] = ("prompt", "thought", "solution")
    with_solutions: bool = False
    long_ngram: int = 13
    short_ngram: int = 7
    contaminated_ratio: float = 0.5
    partial_ratio: float = 0.1
    partial: Literal["keep", "drop"] = "keep"
    allow_list: str = ""
    template_texts: int = 10
    template_share: float = 0.05
    batch_size: int = 1024

    def __post_init__(self):
        if not self.benchmarks:
            raise UserError("decontamination needs benchmarks; name tasks, or files as file:PATH.")
        check_overlap_settings(self)


def check_overlap_settings(settings) -> None:
    """Checks what decontamination and the search for leakage have in common.

    Raises:
      UserError: for a value that makes no sense.
    """
    unknown = next((field for field in settings.fields if field not in TEXT_FIELDS), None)
    if unknown is not None or not settings.fields:
        raise UserError(f"fields must be some of {', '.join(TEXT_FIELDS)}, not {unknown or 'none'}.")
    if not 1 <= settings.short_ngram <= settings.long_ngram:
        raise UserError(
            f"short_ngram={settings.short_ngram} must be at least 1, and at most long_ngram={settings.long_ngram}."
        )
    if not 0 <= settings.partial_ratio <= settings.contaminated_ratio <= 1 or not settings.contaminated_ratio:
        raise UserError(
            f"ratios must be 0 <= partial_ratio <= contaminated_ratio <= 1, and the latter not 0; they are "
            f"{settings.partial_ratio} and {settings.contaminated_ratio}."
        )
    if settings.partial not in ("keep", "drop"):
        raise UserError(f"partial must be 'keep' or 'drop', not {settings.partial!r}.")
    if settings.batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {settings.batch_size}.")
    TemplateRule(settings.template_texts, settings.template_share)


class Decontamination:
    """The stage: drops with "contaminated: 13-gram" or "contaminated: 7-gram ratio"; see `overlap_outcomes` for notes.

    It travels to other processes without its index, which each of them builds, or reads from the folder.

    Attributes:
      name: of the stage.
      batch_size: of the settings.
    """

    def __init__(self, settings: DecontaminationSettings, *, name: str = NAME, folder: str | os.PathLike = ""):
        """Takes the settings.

        Args:
          settings: what is protected.
          name: of the stage: seeds are looked at before models are asked, and what these wrote once more at the end.
          folder: where the index is kept, for other processes and later runs; empty for nowhere.
        """
        self.name = name
        self.batch_size = settings.batch_size
        self._settings = settings
        self._folder = os.fspath(folder)
        self._index: NgramIndex | None = None

    def __getstate__(self):
        return {**vars(self), "_index": None}

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item, in their order."""
        settings = self._settings
        return overlap_outcomes(
            items,
            self.index(),
            stage=self.name,
            fields=settings.fields,
            thresholds=Thresholds(settings.contaminated_ratio, settings.partial_ratio),
            drop_partial=settings.partial == "drop",
            reason="contaminated",
        )

    def index(self) -> NgramIndex:
        """Returns the index, which is built by the first call: one before workers start spares them the work.

        Raises:
          UserError: for a bad spec, or data that cannot be had.
        """
        if self._index is None:
            self._index = decontamination_index(self._settings, folder=self._folder)
        return self._index


def decontamination_index(settings: DecontaminationSettings, *, folder: str = "") -> NgramIndex:
    """Returns the index of what is protected; see `Decontamination`."""
    allowed = read_allow_list(settings.allow_list) if settings.allow_list else []
    key = {
        "benchmarks": [[spec, file_states(place_of(spec))] for spec in settings.benchmarks],
        "allowed": allowed,
        **{
            name: getattr(settings, name)
            for name in ("with_solutions", "long_ngram", "short_ngram", "template_texts", "template_share")
        },
    }

    def build() -> NgramIndex:
        return build_index(
            protected_texts(settings.benchmarks, with_solutions=settings.with_solutions),
            long_size=settings.long_ngram,
            short_size=settings.short_ngram,
            allowed=allowed,
            template=TemplateRule(settings.template_texts, settings.template_share),
        )

    return stored_index(folder, key, build)
