import pytest

from phi4r.curation.engines.local import run_local
from phi4r.curation.shards import read_items
from phi4r.curation.stage import Outcome
from phi4r.errors import UserError
from tests.curation.toys import Even, SameLetters, item, run, shards_of


def test_outcomes_come_in_the_order_of_the_items_and_batches_are_no_larger_than_asked_for(tmp_path):
    stage = Even()
    outcomes = run(run_local, lambda: stage, [item(str(n), str(n)) for n in range(10)], tmp_path)
    assert [outcome.item.id for outcome in outcomes] == list("0123456789")
    assert [outcome.reason for outcome in outcomes] == ["", "odd"] * 5
    assert outcomes[6].item.meta == {"even": {"half": 3}}
    assert stage.batches == [3, 3, 3, 1]


def test_an_item_that_cannot_be_decided_is_a_failure(tmp_path):
    assert run(run_local, Even, [item("a", "two")], tmp_path) == [Outcome(item("a", "two"), "no number", failed=True)]


def test_a_group_stage_meets_the_items_of_each_key_and_the_first_reason_of_an_item_counts(tmp_path):
    items = [item("d", "xz"), item("c", "yz"), item("b", "xy"), item("a", "q")]
    outcomes = run(run_local, SameLetters, items, tmp_path, size=2)
    # x: b before d.  y: b before c.  z: c before d.
    assert [(outcome.item.id, outcome.reason) for outcome in outcomes] == [
        ("d", "has x"),
        ("c", "has y"),
        ("b", ""),
        ("a", ""),
    ]
    assert outcomes[0].item == item("d", "xz").noted("letters", of="b")  # with its prompt, and not that of the digest
    assert outcomes[2].item == items[2]


def test_a_group_stage_that_asks_for_pairs_is_not_bothered_with_single_items(tmp_path):
    class Pairs(SameLetters):
        smallest_group = 2

        def judge(self, items):
            assert len(items) > 1
            return super().judge(items)

    assert [o.kept for o in run(run_local, Pairs, [item("a", "xy"), item("b", "yz")], tmp_path)] == [True, False]


def test_no_items_have_no_outcomes(tmp_path):
    assert run(run_local, Even, [], tmp_path) == run(run_local, SameLetters, [], tmp_path) == []


@pytest.mark.parametrize(
    "wrong", [lambda items: [], lambda items: [Outcome(item("other")) for _ in items]], ids=["lost", "renamed"]
)
def test_a_stage_that_loses_or_renames_items_ends_the_run(tmp_path, wrong):
    class Wrong(Even):
        def __call__(self, items):
            return wrong(items)

    with pytest.raises(AssertionError, match="even gave other items"):
        run(run_local, Wrong, [item("a", "2")], tmp_path)


def test_shards_hold_the_items_whatever_is_in_their_texts(tmp_path):
    items = [
        item(f"{n}", text, meta={"a": [1, {"b": None}]}) for n, text in enumerate(["é\n|", "\u2028", "\ud83d", "漢"])
    ]
    paths = shards_of(tmp_path / "new", items, size=3)
    assert [path.name for path in paths] == ["kept-00000.jsonl", "kept-00001.jsonl"]
    assert list(read_items(paths)) == items


def test_a_line_that_is_no_item_is_named(tmp_path):
    [path] = shards_of(tmp_path / "new", [item("a")])
    path.write_text(path.read_text() + '{"id": "b"}\n')
    with pytest.raises(UserError, match=r"kept-00000.jsonl:2 has no prompt"):
        list(read_items([path]))
