"""The allow-list: long n-grams that are common in text of all kinds, so that having one proves nothing.

"what is the probability that at least one of the two dice shows a six" stands in a benchmark and in many other places.
Which n-grams are common is counted in a corpus of the user's. Only those that the benchmarks have are counted, so
memory is bounded by the index, however long the corpus is; and the list is text, one n-gram a line, to be read by a
person before it is used.

A corpus of the web may hold copies of the benchmarks. Where one source may have many copies of a text, count distinct
sources rather than texts.
"""

import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.overlaps import find_long_ngrams
from phi4r.curation.overlap.protected_texts import row_texts
from phi4r.data.records import atomic_path
from phi4r.data.tables import read_rows
from phi4r.errors import UserError

_BATCH = 4096  # texts
_SOURCES = np.int64(1 << 32)  # more than there are


def common_ngrams(index: NgramIndex, texts: Iterable[tuple[str, str]], *, least: int) -> list[str]:
    """Returns the long n-grams of the index that at least `least` sources have, in alphabetical order.

    Args:
      index: of what is protected, without an allow-list.
      texts: of the corpus, each with its source; with the source "" a text counts as a source of its own.
      least: not in the paper.
    """
    common = np.zeros(len(index.long), bool)
    seen = np.empty(0, np.int64)  # pairs of n-gram and source, of n-grams that are not common yet
    numbers: dict[str, int] = {}
    apart = itertools.count()
    texts = iter(texts)
    while batch := list(itertools.islice(texts, _BATCH)):
        sources = np.array([numbers.setdefault(source, len(numbers)) if source else -1 for source, _ in batch])
        sources = np.where(sources < 0, _SOURCES - 1 - np.fromiter(apart, np.int64, len(batch)), sources)
        of, places = find_long_ngrams(index, [text for _, text in batch])
        pairs = places[~common[places]] * _SOURCES + sources[of[~common[places]]]
        seen = np.union1d(seen, pairs)
        common |= np.bincount(seen // _SOURCES, minlength=len(common)) >= least
        seen = seen[~common[seen // _SOURCES]]
    return sorted(map(index.long_words, np.flatnonzero(common).tolist()))


def corpus_texts(place: str, *, fields: Sequence[str] = (), source_field: str = "") -> Iterator[tuple[str, str]]:
    """Yields the texts of a corpus with their sources, for `common_ngrams`.

    Args:
      place: as `phi4r.data.tables` reads it.
      fields: that hold the text; none for all text of a row.
      source_field: that names the source of a row; empty where each row is a source of its own.

    Raises:
      UserError: if the corpus cannot be read, or a row lacks a field.
    """
    for where, row in read_rows(place):
        if source_field and not row.get(source_field):
            raise UserError(f"{where} has no {source_field!r} that names its source; its fields are {', '.join(row)}.")
        text = "\n\n".join(text.text for text in row_texts(row, fields, benchmark="", where=where))
        yield str(row[source_field]) if source_field else "", text


def write_allow_list(path: str | os.PathLike, ngrams: Sequence[str]) -> None:
    """Writes n-grams, one a line.

    Raises:
      UserError: if the file cannot be written.
    """
    with atomic_path(path) as partial:
        partial.write_text("".join(f"{ngram}\n" for ngram in ngrams), encoding="utf-8")


def read_allow_list(path: str | os.PathLike) -> list[str]:
    """Returns the n-grams of a file, one a line; empty lines and those that begin with # are skipped.

    Raises:
      UserError: if the file cannot be read.
    """
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the allow-list {path} cannot be read ({error}); write one n-gram a line, in UTF-8."
        ) from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
