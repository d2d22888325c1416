import json
import pickle

import pytest

from phi4r.curation.item import Item
from phi4r.curation.overlap.leakage import Leakage, LeakageSettings, is_held_out, leakage
from phi4r.curation.stage import ItemStage
from phi4r.errors import UserError

FARM = "A farmer has twelve brown hens and five white ducks; how many eggs do all hens lay in June?"
TRAIN = "A train leaves the town at noon with two hundred people, and a third of them get off at each stop."


def write(path, *items: Item) -> str:
    path.write_text("".join(json.dumps(item.to_dict()) + "\n" for item in items))
    return str(path)


def test_training_items_that_contain_held_out_ones_are_dropped(tmp_path):
    place = write(tmp_path / "held_out.jsonl", Item("h1", FARM), Item("h2", "Why is grass green?"))
    stage = Leakage(LeakageSettings(place), folder=str(tmp_path / "index"))
    assert isinstance(stage, ItemStage) and stage.name == "leakage"
    items = [
        Item("a", TRAIN),
        Item("b", f"{FARM.lower()} And why?"),
        Item("c", "WHY is grass green"),
        Item("d", FARM[:43]),
    ]
    outcomes = pickle.loads(pickle.dumps(stage))(items)
    # d: "a farmer has twelve brown hens and five whi", 9 words, 3 7-grams, of which 2 are shared.
    assert [outcome.reason for outcome in outcomes] == [
        "",
        "in held-out: 13-gram",
        "in held-out: 7-gram ratio",
        "in held-out: 7-gram ratio",
    ]
    note = outcomes[1].item.meta["leakage"]
    assert (note["benchmark"], note["item"], note["part"], note["start"]) == ("held-out", "h1", "prompt", 0)
    assert outcomes[3].item.meta["leakage"]["ratio"] == 0.6667
    assert outcomes == leakage(items, [Item("h1", FARM), Item("h2", "Why is grass green?")], LeakageSettings("unread"))


def test_a_share_of_the_mixture_is_held_out_by_id(tmp_path):
    ids = [f"i{number}" for number in range(40)]
    held = [name for name in ids if is_held_out(name, 0.25)]
    free = [name for name in ids if name not in held]
    assert 3 <= len(held) <= 20
    texts = {name: f"{name} has so many things to say of all that it saw in the town on day {name}" for name in ids}
    texts[free[0]] = texts[held[0]]
    texts[free[1]] = texts[free[2]]  # a duplicate within the training side is no leak
    items = [Item(name, texts[name]) for name in ids]
    settings = LeakageSettings(write(tmp_path / "all.jsonl", *items), share=0.25, template_texts=2, template_share=0.2)
    outcomes = Leakage(settings)(items)
    assert [outcome.item.id for outcome in outcomes] == ids
    assert [outcome.item.id for outcome in outcomes if not outcome.kept] == []  # all of it is a template here
    plain = Leakage(LeakageSettings(settings.held_out, share=0.25, template_texts=0, contaminated_ratio=1.0))(items)
    by_id = {outcome.item.id: outcome for outcome in plain}
    assert all(by_id[name].item.meta["leakage"] == {"side": "held-out"} and by_id[name].kept for name in held)
    assert by_id[free[0]].reason == "in held-out: 13-gram"


def test_which_items_are_held_out_is_a_matter_of_share():
    ids = [str(number) for number in range(4000)]
    small, large = ({name for name in ids if is_held_out(name, share)} for share in (0.1, 0.3))
    assert small < large
    assert 320 < len(small) < 480 and 1080 < len(large) < 1320  # four standard deviations of 19 and 29
    assert all(is_held_out(name, 1.0) for name in ids)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "no row of .* is in the held-out share"),
        ([{"id": "1", "prompt": FARM}], {"fields": ("solution",)}, ":1 has none of the fields solution"),
        ([{"id": "1", "prompt": FARM}], {"share": 1e-9}, "share of 1e-09; raise the share"),
    ],
)
def test_a_held_out_side_without_text_is_an_error(tmp_path, rows, options, message):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=message):
        Leakage(LeakageSettings(str(path), **options)).index()


@pytest.mark.parametrize(("share", "message"), [(0.0, "share=0.0"), (1.5, "share=1.5")])
def test_shares_that_make_no_sense_are_refused(share, message):
    with pytest.raises(UserError, match=message):
        LeakageSettings("rows.jsonl", share=share)
