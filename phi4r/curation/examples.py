"""A page with some of the items that a stage kept and some that it dropped, reason by reason."""

import hashlib
import heapq
import json
from collections.abc import Mapping
from typing import Any

from phi4r.curation.item import Item
from phi4r.curation.stage import KEPT

_PROMPT_LENGTH, _NOTES_LENGTH = 240, 160  # characters shown


class Examples:
    """Chooses the items to show by a hash of their ids: the same ones in any order and on any engine."""

    def __init__(self, stage: str, num_examples: int):
        """Has none yet.

        Args:
          stage: whose notes are shown.
          num_examples: items of each reason, and as many kept ones.
        """
        self._stage, self._num = stage, num_examples
        self._chosen: dict[str, list[tuple[int, str, Item]]] = {}  # heaps with the largest hash on top

    def add(self, item: Item, reason: str = KEPT) -> None:
        """Looks at an item."""
        chosen = self._chosen.setdefault(reason, [])
        digest = hashlib.blake2b(item.id.encode(errors="surrogatepass"), digest_size=8).digest()
        rank = -int.from_bytes(digest, "big")
        if len(chosen) < self._num:
            heapq.heappush(chosen, (rank, item.id, item))
        elif chosen and rank > chosen[0][0]:
            heapq.heapreplace(chosen, (rank, item.id, item))

    def markdown(self, counts: Mapping[str, int], malformed: Mapping[str, str] | None = None) -> str:
        """Returns the page.

        Args:
          counts: reason -> items of it; the empty one stands for those that were kept.
          malformed: place of a row that is no item -> what is wrong with it, of some.
        """
        parts = [f"# {self._stage}"]
        for reason in sorted(self._chosen, key=lambda reason: (reason != KEPT, -counts[reason], reason)):
            parts.append(f"## {reason or 'kept'} ({counts[reason]:,})")
            rows = [self._row(item) for *_, item in sorted(self._chosen[reason], reverse=True)]
            parts.append("\n".join(["| id | source | prompt | noted |", "|---|---|---|---|", *rows]))
        if malformed:
            parts.append("## malformed rows, the first of them")
            rows = [f"| {_cell(where, 120)} | {_cell(reason, 240)} |" for where, reason in malformed.items()]
            parts.append("\n".join(["| where | what is wrong |", "|---|---|", *rows]))
        return "\n\n".join(parts) + "\n"

    def _row(self, item: Item) -> str:
        notes: Any = item.meta.get(self._stage, "")
        notes = json.dumps(notes, ensure_ascii=False) if notes else ""
        cells = (_cell(item.id, 60), _cell(item.source, 60), _cell(item.prompt, _PROMPT_LENGTH))
        return f"| {' | '.join((*cells, _cell(notes, _NOTES_LENGTH)))} |"


def _cell(text: str, length: int) -> str:
    """Returns text that fits into a cell of a table, and shows as it is."""
    text = " ".join(text.split())
    text = text if len(text) <= length else text[: length - 1] + "…"
    text = text.encode(errors="replace").decode()
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
