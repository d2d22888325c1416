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
from typing import Any

from phi4r.curation.draws import hash_of_id
from phi4r.curation.item import Item
from phi4r.curation.overlap.index_store import file_states
from phi4r.curation.overlap.overlap_stage import OverlapSettings, OverlapStage
from phi4r.curation.overlap.protected_texts import ProtectedText
from phi4r.curation.shards import read_items
from phi4r.curation.stage import Outcome, kept
from phi4r.errors import UserError

NAME = "held_out"
TRAIN, HELD_OUT = "train", "held_out"


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutSettings(OverlapSettings):
    """What is held out, and when a training item leaks it (`OverlapSettings`). None of it is in the paper.

    Attributes:
      share: of the prompts of the mixture that are held out.
      seed: decides which.
      fields: of an item that are looked at, and of a held-out item that are protected.
    """

    share: float = 0.01
    seed: int = 0
    fields: tuple[str, ...] = ("prompt",)

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise UserError(
                f"held_out.share={self.share} must be above 0 and below 1; to hold nothing out, take held_out out of "
                "config.order."
            )
        super().__post_init__()


class HeldOut(OverlapStage[HeldOutSettings]):
    """The stage: drops training items that leak, with "in held-out: 13-gram" or "in held-out: 7-gram ratio".

    Held-out items go on, noted with `side`, which the data sets are split by.
    """

    reason = "in held-out"

    def __init__(
        self, settings: HeldOutSettings, *, shards: Sequence[str | os.PathLike] = (), folder: str | os.PathLike = ""
    ):
        """Reads nothing yet.

        Args:
          settings: what is held out.
          shards: files of all items of the input.
          folder: where the index is kept, for other processes and later runs; empty for nowhere.
        """
        super().__init__(NAME, settings, folder=folder)
        self._shards = tuple(map(pathlib.Path, shards))

    def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        """Returns an outcome for each item, in their order."""
        sides = [self._side(item) for item in items]
        judged = iter(super().__call__([item for item, side in zip(items, sides, strict=True) if side == TRAIN]))
        return [
            next(judged) if side == TRAIN else kept(item.noted(NAME, side=HELD_OUT))
            for item, side in zip(items, sides, strict=True)
        ]

    def texts(self) -> Iterator[ProtectedText]:
        """Yields the texts of the held-out items."""
        for item in read_items(self._shards):
            if self._side(item) == HELD_OUT:
                texts = {field: getattr(item, field) for field in self.settings.fields}
                yield from (ProtectedText(NAME, item.id, field, text) for field, text in texts.items() if text)

    def key(self) -> dict[str, Any]:
        """Returns what decides what is held out, with the states of the shards."""
        settings = self.settings
        shards = [state for shard in self._shards for state in file_states(os.fspath(shard))]
        return {"share": settings.share, "seed": settings.seed, "fields": list(settings.fields), "shards": shards}

    def _side(self, item: Item) -> str:
        return side_of_prompt(item.prompt, share=self.settings.share, seed=self.settings.seed)


def side_of_prompt(prompt: str, *, share: float, seed: int) -> str:
    """Returns TRAIN or HELD_OUT, by a hash of the words of a prompt; a larger share holds all of a smaller one."""
    words = " ".join(prompt.lower().split())
    return HELD_OUT if hash_of_id(f"held out/{words}", seed) < share else TRAIN


def side_of(item: Item) -> str:
    """Returns TRAIN or HELD_OUT, as the stage has noted it; without the stage everything is for training."""
    return item.meta.get(NAME, {}).get("side", TRAIN)
