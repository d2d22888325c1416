import itertools
import string

import pytest

from phi4r.curation.engines.local import run_local
from phi4r.curation.intake.duplicates import ExactDuplicates, ExactSettings, NearDuplicates, NearSettings
from phi4r.errors import UserError
from tests.curation.toys import item, run

pytest.importorskip("datasketch", reason="near duplicates need datasketch")

BASE = (
    "A farmer has twelve rows of apple trees, and each row has seven trees. Every tree bears forty apples. After a "
    "storm one tree in every row falls. How many apples does the farmer pick from the trees that still stand?"
)
PLANTED = {
    "a0": BASE,
    "a1": BASE,  # verbatim
    "a2": BASE.upper(),  # re-cased
    "a3": BASE.replace(",", "").replace(".", " ;").replace("?", ""),  # re-punctuated
    "a4": BASE.replace("twelve", "eleven"),  # small edits
    "a5": BASE.replace("storm", "gale"),
    "a6": "Mira reads: " + BASE,
    # the same problem in other words
    "a7": "In an orchard there are 12 rows with 7 apple trees in each of them, and all of them carry 40 apples. The "
    "wind fells a tree of each row. What number of apples can be picked from what is left standing?",
    "a8": "Apple trees stand in twelve rows of seven. A storm takes one from each row; a tree gives forty apples. How "
    "many are picked?",
    "b0": "A train leaves at noon and travels at sixty miles an hour for three hours. How far does it go?",
}
EXACT = {"a1", "a2", "a3"}
NEAR = {"a4", "a5", "a6"}


def jaccard(one: str, other: str, size: int = 5) -> float:
    """The share of character n-grams in common, by sets; marks go as the words alone would be read out."""
    words = [text.lower().translate(str.maketrans("", "", ".,;?:")).split() for text in (one, other)]
    grams = [{text[i : i + size] for i in range(len(text) - size + 1)} for text in map(" ".join, words)]
    return len(grams[0] & grams[1]) / len(grams[0] | grams[1])


def decide(make, items, tmp_path):
    return {outcome.item.id: outcome for outcome in run(run_local, make, items, tmp_path)}


def items_of(prompts, **fields):
    return [item(id, prompt, **fields) for id, prompt in prompts.items()]


def test_the_planted_prompts_are_as_alike_as_their_comments_say():
    assert all(jaccard(BASE, PLANTED[id]) == 1 for id in EXACT)
    assert all(0.85 < jaccard(BASE, PLANTED[id]) < 1 for id in NEAR)
    assert all(jaccard(PLANTED[id], BASE) < 0.5 for id in ("a7", "a8", "b0"))


def test_exact_duplicates_are_those_that_differ_in_capitals_and_marks_only(tmp_path):
    outcomes = decide(lambda: ExactDuplicates(ExactSettings()), items_of(PLANTED), tmp_path)
    found = {id: outcome for id, outcome in outcomes.items() if not outcome.kept}
    assert set(found) == EXACT
    assert {outcome.reason for outcome in found.values()} == {"exact duplicate"}
    assert {outcome.item.meta["exact_duplicates"]["of"] for outcome in found.values()} == {"a0"}
    assert found["a2"].item.prompt == BASE.upper()


def test_near_duplicates_are_found_and_paraphrases_stay(tmp_path):
    outcomes = decide(lambda: NearDuplicates(NearSettings(threshold=0.8)), items_of(PLANTED), tmp_path)
    assert {id for id, outcome in outcomes.items() if not outcome.kept} == EXACT | NEAR
    assert {outcome.reason for outcome in outcomes.values()} == {"", "near duplicate"}
    for id in EXACT | NEAR:
        notes = outcomes[id].item.meta["near_duplicates"]
        assert set(notes) == {"of", "similarity"}  # and no signature
        assert notes["of"] < id
        # 126 values: the estimate has a standard error of at most 0.045
        assert abs(notes["similarity"] - jaccard(PLANTED[id], PLANTED[notes["of"]])) < 0.15


def test_the_threshold_decides(tmp_path):
    strict = decide(lambda: NearDuplicates(NearSettings(threshold=1.0)), items_of(PLANTED), tmp_path)
    assert {id for id, outcome in strict.items() if not outcome.kept} == EXACT


def test_an_item_is_compared_with_dropped_ones_too():
    """b is like a, c like b and not like a: both go."""
    stage = NearDuplicates(NearSettings(threshold=0.7, num_bands=1, num_values=4))

    def digest(id, *values):
        import base64

        import numpy as np

        signature = base64.b64encode(np.array(values, "<u4").tobytes()).decode()
        return item(id, "", meta={"near_duplicates": {"signature": signature}})

    a, b, c = digest("a", 1, 2, 3, 4), digest("b", 1, 2, 3, 9), digest("c", 1, 2, 8, 9)
    outcomes = stage.judge([a, b, c, digest("d", 1, 2, 8, 9)])
    assert [outcome.reason for outcome in outcomes] == ["", *["near duplicate"] * 3]
    assert [outcome.item.meta["near_duplicates"].get("of") for outcome in outcomes] == [None, "a", "b", "b"]
    similarities = [outcome.item.meta["near_duplicates"].get("similarity") for outcome in outcomes]
    assert similarities == [None, 0.75, 0.75, 0.75]
    assert [outcome.kept for outcome in stage.judge([a, c])] == [True, True]


@pytest.mark.parametrize(
    "make", [lambda p: ExactDuplicates(ExactSettings(p)), lambda p: NearDuplicates(NearSettings(p))]
)
@pytest.mark.parametrize(("prefer", "stays"), [((), "1"), (("web",), "2"), (("books", "web"), "3"), (("none",), "1")])
def test_the_preferred_source_stays_and_then_the_first_id(tmp_path, make, prefer, stays):
    sources = {"1": "crawl", "2": "web", "3": "books", "4": "web"}
    items = [item(id, BASE, source=source) for id, source in reversed(sources.items())]
    outcomes = decide(lambda: make(prefer), items, tmp_path)
    assert [id for id, outcome in outcomes.items() if outcome.kept] == [stays]


@pytest.mark.parametrize("make", [lambda: ExactDuplicates(ExactSettings()), lambda: NearDuplicates(NearSettings())])
def test_the_outcome_depends_on_neither_the_order_nor_the_shards(tmp_path, make):
    items = items_of(PLANTED)
    expected = decide(make, items, tmp_path)
    for order in itertools.islice(itertools.permutations(items), 0, 40_000, 9973):
        assert decide(make, order, tmp_path) == expected


def test_prompts_shorter_than_an_ngram_are_compared_too(tmp_path):
    prompts = dict(zip("abcd", ("Why?", "why", "?", "how"), strict=True))
    outcomes = decide(lambda: NearDuplicates(NearSettings()), items_of(prompts), tmp_path)
    assert [id for id, outcome in outcomes.items() if not outcome.kept] == ["b"]


def test_different_prompts_of_many_lengths_are_kept(tmp_path):
    """No two have an n-gram in common: each repeats its own letter pattern."""
    pairs = itertools.product(string.ascii_lowercase[:10], string.ascii_lowercase[10:20])
    prompts = {f"{n:03d}": (one + other) * (3 + n % 20) for n, (one, other) in enumerate(pairs)}
    outcomes = decide(lambda: NearDuplicates(NearSettings()), items_of(prompts), tmp_path)
    assert all(outcome.kept for outcome in outcomes.values())


@pytest.mark.parametrize("settings", [{"threshold": 0.0}, {"threshold": 1.5}, {"ngram": 0}, {"num_bands": 200}])
def test_settings_that_make_no_sense_are_one_line(settings):
    with pytest.raises(UserError, match="near_duplicates"):
        NearSettings(**settings)
