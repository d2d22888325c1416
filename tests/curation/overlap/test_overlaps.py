import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phi4r.curation.overlap import overlaps
from phi4r.curation.overlap.index_building import build_index
from phi4r.curation.overlap.ngram_index import NgramIndex
from phi4r.curation.overlap.overlaps import CLEAN, Overlap, Thresholds, find_long_ngrams, find_overlaps
from phi4r.curation.overlap.protected_texts import ProtectedText
from tests.curation.overlap.plain_overlaps import plain_overlap

QUESTION = (  # 26 words: 14 13-grams and 20 7-grams
    "A farmer has twelve brown hens and five white ducks; every hen lays four eggs a week. "
    "How many eggs do all hens lay in June?"
)
HALVES = Thresholds(contaminated=0.5, partial=0.1)


def index_of(*texts: str, **options) -> NgramIndex:
    return build_index([ProtectedText("farm", f"q{i}", "prompt", text) for i, text in enumerate(texts)], **options)


@pytest.fixture(scope="module")
def index():
    return index_of(QUESTION, "Name all primes below 50.", "Prove that the square root of two is irrational.")


def condemned(start: int, span: str, *, ratio: float = 1.0) -> Overlap:
    return Overlap("contaminated", "13-gram", pytest.approx(ratio), "farm", "q0", "prompt", start, span)


ALL_WORDS = (
    "a farmer has twelve brown hens and five white ducks every hen lays four eggs a week how many eggs do all hens lay "
    "in june"
)
PLANTED = {
    "verbatim": QUESTION,
    "re-cased": QUESTION.upper(),
    "re-punctuated": QUESTION.replace(";", " -").replace(".", "!?").replace(" ", ", "),
    "white space": QUESTION.replace(" ", " \t  "),
    "over lines": QUESTION.replace(" ", "\n"),
    "in quotes": f"\u201c{QUESTION}\u201d",
}


@pytest.mark.parametrize("how", PLANTED)
def test_a_copy_is_found_however_it_is_written(index, how):
    (overlap,) = find_overlaps(index, [PLANTED[how]], HALVES)
    assert overlap == condemned(0, ALL_WORDS)


@pytest.mark.parametrize("how", PLANTED)
def test_a_copy_inside_a_long_text_is_found_where_it_is(index, how):
    text = "word " * 500 + PLANTED[how] + " other" * 500
    (overlap,) = find_overlaps(index, [text], HALVES)
    assert overlap == condemned(500, ALL_WORDS)  # all 20 of its 7-grams are shared: the smaller number divides


def test_thirteen_words_condemn_and_twelve_do_not(index):
    words = ALL_WORDS.split()
    thirteen, twelve = " ".join(words[5:18]), " ".join(words[5:17])
    texts = [f"at my uncle s we saw {part} and went on to the town then" for part in (thirteen, twelve)]
    # 13 + 13 words are 20 7-grams, of which 7 are shared; 12 + 13 are 19, of which 6 are.
    assert find_overlaps(index, texts, HALVES) == [
        condemned(6, thirteen, ratio=7 / 20),
        Overlap("partial", "7-gram ratio", pytest.approx(6 / 19), "farm", "q0", "prompt", 6, twelve),
    ]


def test_a_paraphrase_is_kept_or_partly_condemned_by_its_ratio(index):
    paraphrase = (
        "Twelve brown hens and five white ducks live on a farm. If hens lay four eggs weekly, what is the total?"
    )
    # Shared: "twelve brown hens and five white ducks", one 7-gram of the 15 of 21 words.
    ratio = 1 / 15
    span = "twelve brown hens and five white ducks"
    for thresholds, verdict in (
        (Thresholds(0.5, 0.1), "clean"),
        (Thresholds(0.5, ratio), "clean"),  # partial is above the threshold
        (Thresholds(0.5, 0.06), "partial"),
        (Thresholds(ratio, 0.06), "contaminated"),  # contaminated is at it already
        (Thresholds(ratio, ratio), "contaminated"),
    ):
        (overlap,) = find_overlaps(index, [paraphrase], thresholds)
        assert overlap.verdict == verdict and overlap.ratio == pytest.approx(ratio)
        assert overlap.span == ("" if verdict == "clean" else span) and overlap.start == 0


def test_a_text_of_fewer_than_thirteen_words_is_judged_by_its_ratio(index):
    text = "Prove: the square root of two is irrational"
    # 8 words, 2 7-grams, one of them in "Prove that the square root of two is irrational" with its 9 words and 3.
    (overlap,) = find_overlaps(index, [text], HALVES)
    assert overlap == Overlap(
        "contaminated", "7-gram ratio", 0.5, "farm", "q2", "prompt", 1, "the square root of two is irrational"
    )


@pytest.mark.parametrize("text", ["name ALL primes, below 50", "Name\nall primes below 50?!"])
def test_a_text_of_fewer_than_seven_words_is_found_by_all_of_them(index, text):
    assert find_overlaps(index, [text], HALVES) == [
        Overlap("contaminated", "7-gram ratio", 1.0, "farm", "q1", "prompt", 0, "name all primes below 50")
    ]


@pytest.mark.parametrize(
    "text",
    ["Name all primes", "Please name all primes below 50", "Now name all primes below 50, and then stop", "", "?!"],
)
def test_a_short_text_of_other_words_is_clean(index, text):
    assert find_overlaps(index, [text], HALVES) == [CLEAN]


def test_a_common_phrase_of_the_allow_list_condemns_nothing():
    phrase = "a week how many eggs do all hens lay in june"
    text = f"Geese lay one egg {phrase}"
    assert find_overlaps(index_of(QUESTION), [f"four eggs {phrase}"], HALVES)[0].rule == "13-gram"
    allowed = index_of(QUESTION, allowed=[f"four eggs {phrase}"])
    (overlap,) = find_overlaps(allowed, [f"Geese lay, four eggs {phrase}"], Thresholds(1.0, 0.9))
    assert overlap == Overlap(ratio=pytest.approx(7 / 9))
    (longer,) = find_overlaps(allowed, [f"lays four eggs {phrase}"], HALVES)  # its first 13-gram is not in the list
    assert longer.rule == "13-gram" and longer.start == 0
    assert find_overlaps(allowed, [text], HALVES)[0].rule == "7-gram ratio"


def test_ngrams_do_not_reach_from_one_text_into_the_next(index):
    words = ALL_WORDS.split()
    halves = [" ".join(words[:6]), " ".join(words[6:12]), " ".join(words[12:18])]
    assert find_overlaps(index, halves, HALVES) == [CLEAN] * 3


def test_a_single_word_may_be_an_ngram_and_still_reaches_nowhere():
    words = index_of("a b c", long_size=3, short_size=1)
    assert {overlap.rule for overlap in find_overlaps(words, ["a b", "c", "x", "a", "b c"], HALVES)} == {
        "",
        "1-gram ratio",
    }
    assert find_overlaps(words, ["a b c"], HALVES)[0].rule == "3-gram"


def test_the_span_is_the_longest_of_several(index):
    words = ALL_WORDS.split()
    long, short = " ".join(words[1:11]), " ".join(words[15:23])
    (overlap,) = find_overlaps(index, [f"{long} or {short} then {short}"], HALVES)
    assert (overlap.start, overlap.span) == (0, long)
    (overlap,) = find_overlaps(index, [f"{short} or {long} then {short}"], HALVES)
    assert (overlap.start, overlap.span) == (9, long)


def test_ngrams_count_as_sets(index):
    part = " ".join(ALL_WORDS.split()[:7])
    # 7 words ten times: 64 7-grams, but 7 different ones, of which one is shared.
    (overlap,) = find_overlaps(index, [f"{part} " * 10], HALVES)
    assert overlap.ratio == pytest.approx(1 / 7) and overlap.span == part


def test_equal_hashes_without_equal_words_condemn_nothing(index):
    forged = index_of(*[QUESTION.replace("hen", "cow").replace("egg", "pie")])
    collided = NgramIndex(**{**vars(index), "rows": forged.rows, "row_starts": forged.row_starts})
    (overlap,) = find_overlaps(collided, ["hens and five white ducks every hen lays four eggs a week how many"], HALVES)
    assert overlap == CLEAN


WORDS = st.lists(st.sampled_from("abcde"), max_size=24).map(" ".join)


@given(
    st.lists(WORDS, min_size=1, max_size=6),
    st.lists(WORDS, max_size=8),
    st.sampled_from([(3, 1), (3, 2), (4, 4), (5, 3), (13, 7)]),
)
@settings(max_examples=150, deadline=None)
def test_it_is_the_plain_algorithm_on_random_texts(items, texts, sizes):
    long, short = sizes
    found = find_overlaps(index_of(*items, long_size=long, short_size=short), texts, HALVES)
    for text, overlap in zip(texts, found, strict=True):
        verdict, rule, ratio = plain_overlap(text, items, long=long, short=short, contaminated=0.5, partial=0.1)
        assert (overlap.verdict, overlap.rule, overlap.ratio) == (verdict, rule, pytest.approx(ratio))
        if verdict != "clean":
            words = overlap.span.split()
            assert text.split()[overlap.start : overlap.start + len(words)] == words
            if len(text.split()) >= short:
                assert len(words) >= (long if rule.startswith(str(long)) else short)


@pytest.mark.parametrize(("group", "pairs"), [(1, 1 << 22), (200, 5), (1 << 18, 1)])
def test_how_much_is_looked_at_together_makes_no_difference(group, pairs, monkeypatch):
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abcdefg", k=rng.randrange(40))) for _ in range(60)]
    small = index_of(*texts[:30], long_size=5, short_size=3)
    whole, whole_long = find_overlaps(small, texts, HALVES), find_long_ngrams(small, texts)
    monkeypatch.setattr(overlaps, "_GROUP", group)
    monkeypatch.setattr(overlaps, "_MAX_PAIRS", pairs)
    assert find_overlaps(small, texts, HALVES) == whole
    assert [part.tolist() for part in find_long_ngrams(small, texts)] == [part.tolist() for part in whole_long]
    assert {overlap.verdict for overlap in whole} == {"clean", "partial", "contaminated"}
