"""What stages that look for protected texts have in common: decontamination, and the search for held-out prompts."""

import abc
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar

from phi4r.curation.item import Item
from phi4r.curation.overlap.index_building import TemplateRule, build_index
from phi4r.curation.overlap.index_store import stored_index
from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.overlap_outcomes import TEXT_FIELDS, overlap_outcomes
from phi4r.curation.overlap.overlaps import Thresholds
from phi4r.curation.overlap.protected_texts import ProtectedText
from phi4r.curation.stage import Outcome
from phi4r.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverlapSettings:
    """When an item has a protected text. Sizes of n-grams are those of section 3, point 6.

    Attributes:
      fields: of an item that are looked at, each by itself.
      long_ngram: words of an n-gram of which one in common condemns.
      short_ngram: words of the n-grams that the ratio counts.
      contaminated_ratio: from this ratio on an item is contaminated. Not in the paper.
      partial_ratio: above this ratio it is partly contaminated. Not in the paper.
      partial: whether to keep such an item or to drop it; it is noted in either case. Not in the paper.
      template_texts: an n-gram that so many texts of a benchmark have is its template, and not protected; 0 for none.
        Not in the paper.
      template_share: and at least this share of them has it. Not in the paper.
      batch_size: items that are looked at together.
    """

    fields: tuple[str, ...] = ("prompt", "thought", "solution")
    long_ngram: int = 13
    short_ngram: int = 7
    contaminated_ratio: float = 0.5
    partial_ratio: float = 0.1
    partial: Literal["keep", "drop"] = "keep"
    template_texts: int = 10
    template_share: float = 0.05
    batch_size: int = 1024

    def __post_init__(self):
        unknown = next((field for field in self.fields if field not in TEXT_FIELDS), None)
        if unknown is not None or not self.fields:
            raise UserError(f"fields must be some of {', '.join(TEXT_FIELDS)}, not {unknown or 'none'}.")
        if not 1 <= self.short_ngram <= self.long_ngram:
            raise UserError(
                f"short_ngram={self.short_ngram} must be at least 1, and at most long_ngram={self.long_ngram}."
            )
        if not 0 <= self.partial_ratio <= self.contaminated_ratio <= 1 or not self.contaminated_ratio:
            raise UserError(
                f"ratios must be 0 <= partial_ratio <= contaminated_ratio <= 1, and the latter not 0; they are "
                f"{self.partial_ratio} and {self.contaminated_ratio}."
            )
        if self.partial not in ("keep", "drop"):
            raise UserError(f"partial must be 'keep' or 'drop', not {self.partial!r}.")
        if self.batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {self.batch_size}.")
        self.template()

    def template(self) -> TemplateRule:
        """Returns the rule by which n-grams are a template."""
        return TemplateRule(self.template_texts, self.template_share)


S = TypeVar("S", bound=OverlapSettings)


class OverlapStage(abc.ABC, Generic[S]):
    """An ItemStage that drops items with a protected text; see `overlap_outcomes` for what it notes.

    It travels to other processes without its index, which each of them builds, or reads from the folder.

    Attributes:
      name: of the stage.
      batch_size: of the settings.
      settings: of the stage.
    """

    reason: str  # of a dropped item, before the rule that it broke

    def __init__(self, name: str, settings: S, *, folder: str | os.PathLike = ""):
        """Reads nothing yet.

        Args:
          name: of the stage.
          settings: of the stage.
          folder: where the index is kept, for other processes and later runs; empty for nowhere.
        """
        self.name, self.settings, self.batch_size = name, settings, settings.batch_size
        self._folder = os.fspath(folder)
        self._index: NgramIndex | None = None

    def __getstate__(self):
        return {**vars(self), "_index": None}

    @abc.abstractmethod
    def texts(self) -> Iterator[ProtectedText]:
        """Yields what is protected."""

    @abc.abstractmethod
    def key(self) -> dict[str, Any]:
        """Returns JSON values that `texts`, and what is allowed of them, are a function of."""

    def allowed(self) -> Sequence[str]:
        """Returns long n-grams that condemn nothing."""
        return ()

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item, in their order."""
        settings = self.settings
        return overlap_outcomes(
            items,
            self.index(),
            stage=self.name,
            fields=settings.fields,
            thresholds=Thresholds(settings.contaminated_ratio, settings.partial_ratio),
            drop_partial=settings.partial == "drop",
            reason=self.reason,
        )

    def index(self) -> NgramIndex:
        """Returns the index, which is built by the first call: one before workers start spares them the work.

        Raises:
          UserError: as `texts`, or for a folder that cannot be written.
        """
        if self._index is None:
            names = ("long_ngram", "short_ngram", "template_texts", "template_share")
            key = {**self.key(), **{name: getattr(self.settings, name) for name in names}}
            self._index = stored_index(self._folder, key, self._build)
        return self._index

    def _build(self) -> NgramIndex:
        settings = self.settings
        return build_index(
            self.texts(),
            long_size=settings.long_ngram,
            short_size=settings.short_ngram,
            allowed=self.allowed(),
            template=settings.template(),
        )
