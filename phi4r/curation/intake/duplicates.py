"""Duplicates among prompts: the same words, and nearly the same words.

Of prompts that are alike the first one stays: first by the order of the sources in `prefer`, then by id. An item is
dropped if, and only if, an item before it is alike. What that one was itself like plays no part, so the outcome depends
on neither the order of the items nor the engine.

Near-duplicates are found by MinHash: the share of equal values in two signatures estimates the Jaccard similarity of
the prompts' sets of character n-grams, and only prompts that have one of several bands of the signature in common are
compared. With b bands of r values, prompts of similarity s are compared with a chance of 1 - (1 - s^r)^b:

    b = 21, r = 6     s = 0.5: 28%     s = 0.7: 93%     s = 0.8: 99.8%     s = 0.9: 100%
"""

import base64
import dataclasses
import functools
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from phi4r.curation.intake.texts import comparable
from phi4r.curation.item import Item
from phi4r.curation.stage import Outcome, dropped, kept
from phi4r.errors import UserError

EXACT, NEAR = "exact_duplicates", "near_duplicates"


@dataclasses.dataclass(frozen=True)
class ExactSettings:
    """Prompts that differ at most in capitals, punctuation and blanks.

    Attributes:
      prefer: sources whose prompts stay before those of others, the best one first; not in the paper.
    """

    prefer: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class NearSettings:
    """Prompts that are nearly the same. None of the numbers is in the paper.

    Attributes:
      prefer: sources whose prompts stay before those of others, the best one first.
      threshold: least estimated Jaccard similarity of prompts that are alike.
      ngram: characters of the n-grams, of the prompt without capitals and punctuation.
      num_values: length of a signature; the estimate has a standard error of at most 0.5 / sqrt(num_values).
      num_bands: parts of a signature; what does not fill a band is used for the estimate alone.
      seed: of the hash functions.
    """

    prefer: tuple[str, ...] = ()
    threshold: float = 0.8
    ngram: int = 5
    num_values: int = 126
    num_bands: int = 21
    seed: int = 1

    def __post_init__(self):
        if not 0.0 < self.threshold <= 1.0:
            raise UserError(f"near_duplicates.threshold={self.threshold} must be above 0 and at most 1.")
        if self.ngram < 1 or not 1 <= self.num_bands <= self.num_values:
            raise UserError("near_duplicates needs ngram >= 1 and 1 <= num_bands <= num_values.")


class ExactDuplicates:
    """A GroupStage; what it drops notes the prompt that stays, as `of`."""

    name = EXACT
    smallest_group = 2

    def __init__(self, settings: ExactSettings):
        """Keeps the order of the sources."""
        self._ranks = _ranks(settings.prefer)

    def keys(self, item: Item) -> Iterable[str]:
        """Returns the hash of the prompt's words."""
        return [hashlib.sha256(comparable(item.prompt).encode(errors="surrogatepass")).hexdigest()]

    def digest(self, item: Item) -> Item:
        """Returns id and source."""
        return Item(item.id, "", source=item.source)

    def judge(self, items: Sequence[Item]) -> list[Outcome]:
        """Keeps the first."""
        first = min(items, key=lambda item: _place(item, self._ranks))
        return [
            kept(item) if item is first else dropped(item.noted(self.name, of=first.id), "exact duplicate")
            for item in items
        ]


class NearDuplicates:
    """A GroupStage; what it drops notes the first prompt that is like it in one band, as `of`, and how much.

    Requires datasketch.
    """

    name = NEAR
    smallest_group = 2

    def __init__(self, settings: NearSettings):
        """Keeps the settings."""
        self._settings, self._ranks = settings, _ranks(settings.prefer)
        self._band_size = settings.num_values // settings.num_bands

    def keys(self, item: Item) -> Iterable[str]:
        """Returns the bands of the prompt's signature."""
        signature, size = self._signature(item), self._band_size * 4
        for band in range(self._settings.num_bands):
            part = signature[band * size : (band + 1) * size]
            yield f"{band:03d}-{hashlib.blake2b(part, digest_size=8).hexdigest()}"

    def digest(self, item: Item) -> Item:
        """Returns id, source and signature."""
        signature = base64.b64encode(self._signature(item)).decode()
        return Item(item.id, "", source=item.source, meta={self.name: {"signature": signature}})

    def judge(self, items: Sequence[Item]) -> list[Outcome]:
        """Drops those that are like one before them."""
        order = sorted(range(len(items)), key=lambda i: _place(items[i], self._ranks))
        signatures = [base64.b64decode(items[i].meta[self.name]["signature"]) for i in order]
        outcomes = [kept(item) for item in items]
        for this, first, similarity in _alike(signatures, self._settings.threshold):
            item = items[order[this]]
            noted = item.noted(self.name, of=items[order[first]].id, similarity=round(similarity, 3))
            outcomes[order[this]] = dropped(noted, "near duplicate")
        return outcomes

    def _signature(self, item: Item) -> bytes:
        settings = self._settings
        return _signature(item.prompt, settings.ngram, settings.num_values, settings.seed)


@functools.lru_cache(maxsize=8)  # `keys` and `digest` of an item follow each other
def _signature(prompt: str, ngram: int, num_values: int, seed: int) -> bytes:
    """Returns the MinHash signature of a prompt, 4 bytes a value."""
    text = comparable(prompt)
    data, size = text.encode("utf-32-le", errors="surrogatepass"), 4 * ngram
    minhash = _empty_minhash(num_values, seed).copy()
    minhash.update_batch({data[i : i + size] for i in range(0, max(len(data) - size, 0) + 1, 4)})
    return minhash.hashvalues.astype("<u4").tobytes()


@functools.cache
def _empty_minhash(num_values: int, seed: int) -> Any:
    """Returns a MinHash of nothing; its hash functions take long to draw."""
    try:
        from datasketch import MinHash
    except ImportError as error:
        raise UserError("near_duplicates needs datasketch: pip install 'datasketch>=2'.") from error
    # The library mixes what this hash gives before it permutes it, so a fast one will do.
    return MinHash(num_perm=num_values, seed=seed, hashfunc=zlib.crc32, scheme="affine32")


def _alike(signatures: Sequence[bytes], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yields (row, first row before it that is alike, similarity) for each signature that has one."""
    import numpy as np

    # Of equal signatures one is compared with the others: large groups are mostly made of such.
    firsts: dict[bytes, int] = {}
    for row, signature in enumerate(signatures):
        firsts.setdefault(signature, row)
    rows = list(firsts.values())
    values = np.frombuffer(b"".join(firsts), "<u4").reshape(len(rows), -1)
    found: dict[int, tuple[int, float]] = {}
    for number in range(1, len(rows)):
        shares = (values[:number] == values[number]).mean(axis=1)
        first = int((shares >= threshold).argmax())
        if shares[first] >= threshold:
            found[rows[number]] = rows[first], float(shares[first])
    for row, signature in enumerate(signatures):
        first = firsts[signature]
        if first in found:
            yield row, *found[first]
        elif first != row:
            yield row, first, 1.0


def _ranks(prefer: Sequence[str]) -> dict[str, int]:
    return {source: rank for rank, source in enumerate(prefer)}


def _place(item: Item, ranks: dict[str, int]) -> tuple[int, str]:
    """Returns what the order of items is by."""
    return ranks.get(item.source, len(ranks)), item.id
