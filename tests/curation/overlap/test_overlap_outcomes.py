import pytest

from phi4r.curation.item import Item
from phi4r.curation.overlap.index_building import build_index
from phi4r.curation.overlap.overlap_outcomes import overlap_outcomes
from phi4r.curation.overlap.overlaps import Thresholds
from phi4r.curation.overlap.protected_texts import ProtectedText


@pytest.fixture(scope="module")
def outcomes_of():
    texts = [("one", "a b c d e f"), ("two", "p q r s")]
    index = build_index((ProtectedText("b", name, "prompt", text) for name, text in texts), long_size=4, short_size=2)

    def judge(*items: Item, drop_partial: bool = False):
        return overlap_outcomes(
            items,
            index,
            stage="check",
            fields=("prompt", "answer", "thought"),
            thresholds=Thresholds(contaminated=0.5, partial=0.2),
            drop_partial=drop_partial,
            reason="found",
        )

    return judge


@pytest.mark.parametrize(
    ("texts", "field", "rule"),
    [
        ({"prompt": "a b x y", "thought": "p q r s"}, "thought", "4-gram"),  # 1/3 and a long one
        ({"prompt": "p q r", "thought": "x a b c d"}, "thought", "4-gram"),  # a ratio of 1, and a long one with 3/4
        ({"prompt": "p q r", "thought": "a b c y z"}, "prompt", "2-gram ratio"),  # 2/2 and 2/4
        ({"prompt": "p q x r", "answer": "a b y d"}, "prompt", "2-gram ratio"),  # equal: the first field
    ],
)
def test_the_worst_of_the_texts_decides(outcomes_of, texts, field, rule):
    (outcome,) = outcomes_of(Item("i", **texts))
    note = outcome.item.meta["check"]
    assert (note["field"], note["rule"]) == (field, rule)


def test_reasons_say_how_far_it_goes_and_other_fields_are_left_alone(outcomes_of):
    items = [
        Item("a", "a b c d"),
        Item("b", "p q r x"),
        Item("c", "p q x y", meta={"seen": 1}),
        Item("d", "x y", solution="a b c d"),
    ]
    assert [o.reason for o in outcomes_of(*items)] == ["found: 4-gram", "found: 2-gram ratio", "", ""]
    assert outcomes_of(*items, drop_partial=True)[2].reason == "partly found: 2-gram ratio"
    kept = outcomes_of(*items)[2].item
    assert kept.meta["seen"] == 1 and kept.meta["check"]["verdict"] == "partial"
    assert outcomes_of() == []
