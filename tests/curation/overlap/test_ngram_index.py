import dataclasses

import numpy as np
import pytest

from phi4r.curation.overlap.index_building import build_index
from phi4r.curation.overlap.ngram_index import NgramIndex, find_sorted
from phi4r.curation.overlap.ngrams import hash_words, ngram_hashes
from phi4r.curation.overlap.protected_texts import ProtectedText
from phi4r.errors import UserError


@pytest.fixture(scope="module")
def index():
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.integers(0, 50, 40))) for _ in range(200)]
    return build_index([ProtectedText("b", f"é{i}", "prompt", text) for i, text in enumerate(texts)])


def test_places_in_a_sorted_array():
    array = np.array([3, 5, 9], np.uint64)
    assert find_sorted(array, np.array([9, 4, 3, 10, 0, 5, 9], np.uint64)).tolist() == [2, -1, 0, -1, -1, 1, 2]
    assert find_sorted(array[:0], array).tolist() == [-1, -1, -1]
    assert find_sorted(array, array[:0]).tolist() == []


def test_the_filter_lets_all_of_the_index_pass_and_few_others(index):
    assert index.may_have(index.short).tolist() == list(range(len(index.short)))
    others = ngram_hashes(hash_words([" ".join(f"w{i}" for i in range(20_000))]).values, 7)
    assert len(index.short) > 6000
    assert 0 < len(index.may_have(others)) < 20_000 / 16  # at most one of 32, and chance


def test_an_empty_index_lets_nothing_pass():
    empty = build_index([ProtectedText("b", "1", "prompt", "")])
    assert empty.may_have(hash_words(["a b c"]).values).tolist() == []


def test_a_saved_index_is_mapped_and_the_same(index, tmp_path):
    index.save(tmp_path / "index")
    loaded = NgramIndex.load(tmp_path / "index")
    for field in dataclasses.fields(index):
        ours, theirs = getattr(index, field.name), getattr(loaded, field.name)
        assert isinstance(theirs, np.memmap) and theirs.dtype == ours.dtype
        assert np.array_equal(ours, theirs)
    assert loaded.row(7)[:3] == ("b", "é7", "prompt") and len(loaded.row(7)[3]) == 40


def test_a_damaged_index_is_named(index, tmp_path):
    index.save(tmp_path)
    (tmp_path / "short.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot be read .* delete the folder"):
        NgramIndex.load(tmp_path)
    with pytest.raises(UserError, match="cannot write the index"):
        index.save(tmp_path / "short.npy")
