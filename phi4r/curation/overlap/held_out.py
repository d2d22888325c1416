"""Held-out items: prompts that are kept from training, and training items that contain texts of them.

A loss or a score on held-out items says something only if training has not seen them, nor half of them. So the stage
that chooses them also looks for them in the rest, in the way that decontamination looks for benchmarks
(`phi4r.curation.overlap.overlaps`). Which prompts are held out is a function of their words: it does not depend on the
order of the items, a growing mixture keeps its held-out prompts, and all traces of a prompt go together.

A validation set of one's own is a benchmark like any other: its file goes into those of decontamination.
"""

import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Literal

from phi4r.curation.draws import hash_of_id
from phi4r.curation.item import Item
from phi4r.curation.overlap.decontamination import check_overlap_settings
from phi4r.curation.overlap.index_building import TemplateRule, build_index
from phi4r.curation.overlap.index_store import file_states, stored_index
from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.overlap_outcomes import overlap_outcomes
from phi4r.curation.overlap.overlaps import Thresholds
from phi4r.curation.overlap.protected_texts import ProtectedText
from phi4r.curation.shards import read_items
from phi4r.curation.stage import Outcome, kept
from phi4r.errors import UserError

NAME = "held_out"
TRAIN, HELD_OUT = "train", "held_out"


@dataclasses.dataclass(frozen=True)
class HeldOutSettings:
    """What is held out, and when a training item leaks it. None of it is in the paper, but for sizes of n-grams.

    Attributes:
      share: of the prompts of the mixture that are held out.
      seed: decides which.
      fields: of an item that are looked at, and of a held-out item that are protected.
      long_ngram: words of an n-gram of which one in common is a leak.
      short_ngram: words of the n-grams that the ratio counts.
      contaminated_ratio: from this ratio on an item is a leak.
      partial_ratio: above this ratio it is partly one.
      partial: whether to keep such an item or to drop it; it is noted in either case.
      template_texts: an n-gram that so many held-out texts have is a template, and no leak; 0 for none.
      template_share: and at least this share of them has it.
      batch_size: items that are looked at together.
    """

    share: float = 0.01
    seed: int = 0
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
        if not 0 < self.share < 1:
            raise UserError(
                f"held_out.share={self.share} must be above 0 and below 1; to hold nothing out, take held_out out of "
                "config.order."
            )
        check_overlap_settings(self)


class HeldOut:
    """The stage: drops training items that leak, with "in held-out: 13-gram" or "in held-out: 7-gram ratio".

    Held-out items go on, noted with `side`, which the data sets are split by. Like `Decontamination` the stage travels
    without its index.

    Attributes:
      name: of the stage.
      batch_size: of the settings.
    """

    name = NAME

    def __init__(
        self, settings: HeldOutSettings, *, shards: Sequence[str | os.PathLike] = (), folder: str | os.PathLike = ""
    ):
        """Reads nothing yet.

        Args:
          settings: what is held out.
          shards: files of all items of the input.
          folder: where the index is kept, for other processes and later runs; empty for nowhere.
        """
        self.batch_size = settings.batch_size
        self._settings = settings
        self._shards = tuple(map(pathlib.Path, shards))
        self._folder = os.fspath(folder)
        self._index: NgramIndex | None = None

    def __getstate__(self):
        return {**vars(self), "_index": None}

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item, in their order."""
        settings = self._settings
        sides = [self._side(item) for item in items]
        judged = iter(
            overlap_outcomes(
                [item for item, side in zip(items, sides, strict=True) if side == TRAIN],
                self.index(),
                stage=NAME,
                fields=settings.fields,
                thresholds=Thresholds(settings.contaminated_ratio, settings.partial_ratio),
                drop_partial=settings.partial == "drop",
                reason="in held-out",
            )
        )
        return [
            next(judged) if side == TRAIN else kept(item.noted(NAME, side=HELD_OUT))
            for item, side in zip(items, sides, strict=True)
        ]

    def index(self) -> NgramIndex:
        """Returns the index of what is held out, which is built by the first call."""
        if self._index is None:
            files = [state for shard in self._shards for state in file_states(os.fspath(shard))]
            key = {**dataclasses.asdict(self._settings), "files": files}
            self._index = stored_index(self._folder, key, self._build)
        return self._index

    def _side(self, item: Item) -> str:
        return side_of_prompt(item.prompt, share=self._settings.share, seed=self._settings.seed)

    def _build(self) -> NgramIndex:
        settings = self._settings
        return build_index(
            self._texts(),
            long_size=settings.long_ngram,
            short_size=settings.short_ngram,
            template=TemplateRule(settings.template_texts, settings.template_share),
        )

    def _texts(self) -> Iterator[ProtectedText]:
        for item in read_items(self._shards):
            if self._side(item) == HELD_OUT:
                texts = {field: getattr(item, field) for field in self._settings.fields}
                yield from (ProtectedText(NAME, item.id, field, text) for field, text in texts.items() if text)


def side_of_prompt(prompt: str, *, share: float, seed: int) -> str:
    """Returns TRAIN or HELD_OUT, by a hash of the words of a prompt; a larger share holds all of a smaller one."""
    words = " ".join(prompt.lower().split())
    return HELD_OUT if hash_of_id(f"held out/{words}", seed) < share else TRAIN


def side_of(item: Item) -> str:
    """Returns TRAIN or HELD_OUT, as the stage has noted it; without the stage everything is for training."""
    return item.meta.get(NAME, {}).get("side", TRAIN)
