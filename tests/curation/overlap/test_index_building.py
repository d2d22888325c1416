import numpy as np
import pytest

from phi4r.curation.overlap.index_building import TemplateRule, build_index
from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.ngrams import hash_words, ngram_hashes
from phi4r.curation.overlap.overlaps import CLEAN, Thresholds, find_overlaps
from phi4r.curation.overlap.protected_texts import ProtectedText
from phi4r.errors import UserError


def texts(*contents: str, benchmark: str = "b", whole: bool = True) -> list[ProtectedText]:
    return [ProtectedText(benchmark, str(number), "prompt", text, whole) for number, text in enumerate(contents)]


def short_of(index, text: int) -> set[int]:
    """The short n-grams that the index has of a text."""
    places = np.repeat(np.arange(len(index.short)), np.diff(index.posting_starts))
    return set(index.short[places[index.postings == text]].tolist())


def hashes(text: str, size: int) -> set[int]:
    return set(ngram_hashes(hash_words([text]).values, size).tolist())


def test_the_index_has_the_ngrams_of_each_text_once():
    index = build_index(texts("a b c a b c", "b c d", "x, y"), long_size=3, short_size=2)
    assert index.num_short.tolist() == [3, 2, 1]  # a b, b c, c a | b c, c d | x y
    assert [short_of(index, i) for i in range(3)] == [hashes("a b c a", 2), hashes("b c d", 2), hashes("x y", 2)]
    assert len(index.short) == 5 and len(index.postings) == 6  # b c is in two
    assert sorted(map(index.long_words, range(len(index.long)))) == ["a b c", "b c a", "b c d", "c a b"]
    assert index.row(1) == ("b", "1", "prompt", ["b", "c", "d"])
    assert len(index) == 3 and (index.long_size, index.short_size) == (3, 2)


def test_benchmarks_are_numbered_apart_though_their_texts_are_mixed():
    mixed = [*texts("a b c d", benchmark="x"), *texts("c d e f", benchmark="y"), *texts("e f g h", benchmark="x")]
    index = build_index(mixed, long_size=3, short_size=2)
    assert [index.row(i)[0] for i in range(3)] == ["x", "x", "y"]
    for i, text in enumerate(("a b c d", "e f g h", "c d e f")):
        assert short_of(index, i) == hashes(text, 2)
    for place, gram in enumerate(map(index.long_words, range(len(index.long)))):
        assert gram in " ".join(index.row(int(index.long_text[place]))[3])


def test_a_short_text_is_one_ngram_if_it_is_protected_as_a_whole():
    index = build_index([*texts("a b", "a", ""), *texts("a b", whole=False)], long_size=4, short_size=3)
    assert index.num_short.tolist() == [1, 1, 0, 0]
    assert set(index.short.tolist()) == hashes("a b", 2) | hashes("a", 1)
    assert len(index.long) == 0


def test_what_many_texts_of_a_benchmark_share_is_its_template():
    # "think step by" and "step by step" are in three of four texts; so of each only the words before are protected.
    shared = texts("p q r s think step by step", "t u v w think step by step", "p z think step by step", "p q r s o")
    index = build_index(shared, long_size=4, short_size=3, template=TemplateRule(num_texts=3, share=0))
    assert [short_of(index, i) for i in range(4)] == [
        hashes("p q r s", 3),
        hashes("t u v w", 3),
        hashes("p z", 2),  # two words that are left of a prompt count as a short text
        hashes("p q r s o", 3),
    ]
    assert {index.long_words(i) for i in range(len(index.long))} == {"p q r s", "t u v w", "q r s o"}


def test_words_around_a_template_are_no_short_text():
    shared = texts("p k l m n", "k l m q", "p k l m q")
    index = build_index(shared, long_size=5, short_size=3, template=TemplateRule(num_texts=3, share=0))
    assert index.num_short.tolist() == [0, 1, 0]  # of the others words on both sides are left
    assert set(index.short.tolist()) == hashes("q", 1)


@pytest.mark.parametrize(
    ("rule", "num_left"), [(TemplateRule(2, 0), 0), (TemplateRule(2, 0.6), 2), (TemplateRule(0), 2)]
)
def test_a_template_needs_a_number_and_a_share_of_texts(rule, num_left):
    others = texts(*(f"{i}a {i}b {i}c" for i in range(2)))
    index = build_index([*texts("k l m", "k l m"), *others], long_size=4, short_size=3, template=rule)
    assert sum(bool(short_of(index, i) & hashes("k l m", 3)) for i in range(4)) == num_left


def test_templates_are_those_of_one_benchmark():
    same = [text for name in "xyz" for text in texts("k l m", benchmark=name)]
    index = build_index(same, long_size=4, short_size=3, template=TemplateRule(2, 0))
    assert index.num_short.tolist() == [1, 1, 1]


def test_allowed_ngrams_are_left_out():
    index = build_index(texts("a b c d"), long_size=3, short_size=2, allowed=["B, c D"])
    assert [index.long_words(0)] == ["a b c"] and len(index.long) == 1
    assert index.num_short.tolist() == [3]  # the short ones still count


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": texts("a"), "long_size": 2, "short_size": 3}, "short size <= long size"),
        ({"texts": texts("a"), "allowed": ["one two"]}, "'one two', which has not 13 words"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        build_index(**arguments)


@pytest.mark.parametrize("values", [(1, 0.5), (-1, 0.5), (3, 1.5)])
def test_templates_that_make_no_sense_are_refused(values):
    with pytest.raises(UserError, match="a template needs"):
        TemplateRule(*values)


def test_an_index_of_no_texts_finds_nothing(tmp_path):
    build_index([]).save(tmp_path)
    index = NgramIndex.load(tmp_path)
    assert len(index) == 0 and index.coverage() == {}
    assert find_overlaps(index, ["a b c d e f g h i j k l m n", "a", ""], Thresholds(0.5, 0.1)) == [CLEAN] * 3
