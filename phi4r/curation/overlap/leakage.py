"""Leakage within a mixture: training items that contain texts of held-out ones.

A loss or a score on held-out items says something only if training has not seen them, nor half of them. The search is
that for benchmarks (`phi4r.curation.overlap.overlaps`), with an index of the held-out side. Which items are held out is
said by a file of their own, or by a share: whether an item belongs to it is a function of its id, so it does not depend
on the order of a file, and a growing mixture keeps its held-out items.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from phi4r.curation.item import Item
from phi4r.curation.overlap.decontamination import check_overlap_settings
from phi4r.curation.overlap.index_building import TemplateRule, build_index
from phi4r.curation.overlap.index_store import file_states, stored_index
from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.overlap_outcomes import overlap_outcomes
from phi4r.curation.overlap.overlaps import Thresholds
from phi4r.curation.overlap.protected_texts import ProtectedText, row_texts
from phi4r.curation.stage import Outcome, kept
from phi4r.data.tables import read_rows
from phi4r.errors import UserError

HELD_OUT = "held-out"


@dataclasses.dataclass(frozen=True)
class LeakageSettings:
    """What is held out, and when a training item leaks it. All of it is not in the paper, but for sizes of n-grams.

    Attributes:
      held_out: file, folder or tfds: data set of held-out rows, or, with a share below 1, of the whole mixture.
      share: of those rows that are held out, chosen by id.
      fields: of an item that are looked at, and of a held-out row that are protected, as far as it has them.
      long_ngram: words of an n-gram of which one in common is a leak.
      short_ngram: words of the n-grams that the ratio counts.
      contaminated_ratio: from this ratio on an item is a leak.
      partial_ratio: above this ratio it is partly one.
      partial: whether to keep such an item or to drop it; it is noted in either case.
      template_texts: an n-gram that so many held-out texts have is a template, and no leak; 0 for none.
      template_share: and at least this share of them has it.
      batch_size: items that are looked at together.
    """

    held_out: str
    share: float = 1.0
    fields: tuple[str, ...] = ("prompt",)
    long_ngram: int = 13
    short_ngram: int = 7
    contaminated_ratio: float = 0.5
    partial_ratio: float = 0.1
    partial: Literal["keep", "drop"] = "keep"
    template_texts: int = 10
    template_share: float = 0.05
    batch_size: int = 1024

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise UserError(f"share={self.share} of held-out items must be above 0 and at most 1.")
        check_overlap_settings(self)


class Leakage:
    """The stage: drops training items that leak, with "in held-out: 13-gram" or "in held-out: 7-gram ratio".

    Items that are held out themselves go on, noted with `side`. Like `Decontamination` it travels without its index.

    Attributes:
      name: of the stage.
      batch_size: of the settings.
    """

    name = "leakage"

    def __init__(self, settings: LeakageSettings, *, folder: str = ""):
        """Takes the settings, and the folder where the index is kept (empty for nowhere)."""
        self.batch_size = settings.batch_size
        self._settings = settings
        self._folder = folder
        self._index: NgramIndex | None = None

    def __getstate__(self):
        return {**vars(self), "_index": None}

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item, in their order."""
        return _judge(items, self.index(), self._settings)

    def index(self) -> NgramIndex:
        """Returns the index, which is built by the first call.

        Raises:
          UserError: if the held-out rows cannot be read, or there are none.
        """
        if self._index is None:
            settings = self._settings
            key = {**dataclasses.asdict(settings), "files": file_states(settings.held_out)}
            self._index = stored_index(self._folder, key, lambda: _build(_rows_texts(settings), settings))
        return self._index


def leakage(items: Sequence[Item], held_out: Iterable[Item], settings: LeakageSettings) -> list[Outcome]:
    """Judges training items against held-out ones that are in memory; `held_out` of the settings is not read.

    Raises:
      UserError: if the held-out items have no text.
    """
    rows = ((item.id, field, getattr(item, field)) for item in held_out for field in settings.fields)
    texts = (ProtectedText(HELD_OUT, item, field, text) for item, field, text in rows if text)
    return _judge(items, _build(texts, settings), settings)


def is_held_out(item_id: str, share: float) -> bool:
    """Returns whether an item belongs to the held-out share; a larger share holds all of a smaller one."""
    bucket = int.from_bytes(hashlib.sha256(f"{HELD_OUT}\n{item_id}".encode(errors="surrogatepass")).digest()[:8], "big")
    return bucket < share * 2**64


def _judge(items: Sequence[Item], index: NgramIndex, settings: LeakageSettings) -> list[Outcome]:
    apart = settings.share < 1
    training = [item for item in items if not (apart and is_held_out(item.id, settings.share))]
    judged = iter(
        overlap_outcomes(
            training,
            index,
            stage=Leakage.name,
            fields=settings.fields,
            thresholds=Thresholds(settings.contaminated_ratio, settings.partial_ratio),
            drop_partial=settings.partial == "drop",
            reason="in held-out",
        )
    )
    chosen = {item.id for item in training}
    return [next(judged) if item.id in chosen else kept(item.noted(Leakage.name, side=HELD_OUT)) for item in items]


def _build(texts: Iterable[ProtectedText], settings: LeakageSettings) -> NgramIndex:
    return build_index(
        texts,
        long_size=settings.long_ngram,
        short_size=settings.short_ngram,
        template=TemplateRule(settings.template_texts, settings.template_share),
    )


def _rows_texts(settings: LeakageSettings) -> Iterator[ProtectedText]:
    """Yields the texts of the held-out rows of the place."""
    num_rows = 0
    for where, row in read_rows(settings.held_out):
        fields = [field for field in settings.fields if row.get(field)]
        if not fields:
            raise UserError(f"{where} has none of the fields {', '.join(settings.fields)}; name those that it has.")
        for text in row_texts(row, fields, benchmark=HELD_OUT, where=where):
            if settings.share == 1 or is_held_out(text.item, settings.share):
                num_rows += 1
                yield text
    if not num_rows:
        raise UserError(f"no row of {settings.held_out} is in the held-out share of {settings.share}; raise the share.")
