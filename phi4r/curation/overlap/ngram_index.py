"""NgramIndex: the n-grams of protected texts as sorted arrays, in memory or mapped from a folder.

There are two sizes of n-grams. One long n-gram in common is enough to condemn a text, so of these a set is kept, with
one place where the words of each can be read. The short ones are counted text by text, so of these it is known in which
protected texts each occurs. A filter of 32 bits an n-gram says of most n-grams that they are in no protected text;
only for the rest a sorted array is searched.

`phi4r.curation.overlap.index_building` makes an index.
"""

import dataclasses
import json
import os
import pathlib

import numpy as np

from phi4r.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NgramIndex:
    """The n-grams of protected texts.

    Attributes:
      sizes: words of a long and of a short n-gram, [2].
      filter: bits that are set for the hashes of short n-grams, [2^bits / 8] uint8.
      short: hashes of short n-grams, sorted, [S] uint64.
      posting_starts: where the texts of each short n-gram begin in `postings`, [S + 1] int64.
      postings: numbers of texts, [P] int32.
      num_short: distinct short n-grams of each text, [texts] int32; 0 for one that nothing can be found of.
      long: hashes of long n-grams, sorted, [L] uint64.
      long_text: a text that has it, [L] int32.
      long_start: the number of its first word there, [L] int32.
      row_starts: where the row of each text begins in `rows`, [texts + 1] int64.
      rows: JSON of benchmark, item, part and words of each text, [bytes] uint8.
    """

    sizes: np.ndarray
    filter: np.ndarray
    short: np.ndarray
    posting_starts: np.ndarray
    postings: np.ndarray
    num_short: np.ndarray
    long: np.ndarray
    long_text: np.ndarray
    long_start: np.ndarray
    row_starts: np.ndarray
    rows: np.ndarray

    @property
    def long_size(self) -> int:
        """Words of a long n-gram."""
        return int(self.sizes[0])

    @property
    def short_size(self) -> int:
        """Words of a short n-gram."""
        return int(self.sizes[1])

    def __len__(self) -> int:
        return len(self.num_short)

    def may_have(self, hashes: np.ndarray) -> np.ndarray:
        """Returns the positions of those short n-grams that pass the filter: all that are in a text, and few others."""
        slots = hashes >> np.uint64(64 - (8 * len(self.filter)).bit_length() + 1)
        bits = self.filter[slots >> np.uint64(3)] >> (slots & np.uint64(7)).astype(np.uint8)
        return np.flatnonzero(bits & 1)

    def row(self, text: int) -> tuple[str, str, str, list[str]]:
        """Returns benchmark, item, part and words of a text."""
        content = self.rows[self.row_starts[text] : self.row_starts[text + 1]].tobytes()
        benchmark, item, part, words = json.loads(content)
        return benchmark, item, part, words.split()

    def coverage(self) -> dict[str, tuple[int, int]]:
        """Returns for each benchmark the number of its texts, and of those of which nothing can be found."""
        covered: dict[str, tuple[int, int]] = {}
        for text, num_short in enumerate(self.num_short.tolist()):
            benchmark = self.row(text)[0]
            num_texts, num_lost = covered.get(benchmark, (0, 0))
            covered[benchmark] = (num_texts + 1, num_lost + (num_short == 0))
        return covered

    def long_words(self, place: int) -> str:
        """Returns the words of a long n-gram."""
        start = int(self.long_start[place])
        return " ".join(self.row(int(self.long_text[place]))[3][start : start + self.long_size])

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the arrays, one file each.

        Raises:
          UserError: if the folder cannot be written.
        """
        folder = pathlib.Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for field in dataclasses.fields(self):
                np.save(folder / f"{field.name}.npy", getattr(self, field.name), allow_pickle=False)
        except OSError as error:
            raise UserError(f"cannot write the index {folder}: {error.strerror or error}.") from error

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "NgramIndex":
        """Maps the files of `save` into memory: processes of one machine share them, and only what is used is read.

        Raises:
          UserError: if they cannot be read.
        """
        folder = pathlib.Path(folder)
        try:
            names = [field.name for field in dataclasses.fields(cls)]
            return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names})
        except (OSError, ValueError) as error:
            raise UserError(
                f"the index {folder} cannot be read ({error}); delete the folder to build it again."
            ) from error


def find_sorted(array: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns the place of each wanted value in a sorted array, -1 for one that is not there."""
    if not len(array):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(wanted)  # neighbours in the array are then looked up one after the other, out of the cache
    wanted = wanted[order]
    found = np.minimum(np.searchsorted(array, wanted), len(array) - 1)
    places = np.empty(len(wanted), np.int64)
    places[order] = np.where(array[found] == wanted, found, -1)
    return places
