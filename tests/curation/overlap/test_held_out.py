import json
import pickle

import pytest

from phi4r.curation.item import Item
from phi4r.curation.overlap.held_out import HELD_OUT, TRAIN, HeldOut, HeldOutSettings, side_of, side_of_prompt
from phi4r.curation.stage import ItemStage
from phi4r.errors import UserError

FARM = "A farmer has twelve brown hens and five white ducks; how many eggs do all hens lay in June?"
STOP = "leaves the town at noon with two hundred people, and a third of them get off at each stop."


def shard(path, items: list[Item]) -> list[str]:
    path.write_text("".join(json.dumps(item.to_dict()) + "\n" for item in items))
    return [str(path)]


def on_side(side: str, text: str, *, share: float = 0.5) -> str:
    """Returns the text after a number that puts it on a side."""
    return next(f"{n} {text}" for n in range(100) if side_of_prompt(f"{n} {text}", share=share, seed=0) == side)


def is_train(prompt: str) -> bool:
    return side_of_prompt(prompt, share=0.5, seed=0) == TRAIN


def test_training_items_that_contain_held_out_ones_are_dropped(tmp_path):
    held = [Item("h1", on_side(HELD_OUT, FARM)), Item("h2", on_side(HELD_OUT, "Why is grass green?"))]
    short = held[1].prompt  # five words: protected as a whole
    items = [
        Item("a", on_side(TRAIN, f"A train {STOP}")),
        Item("b", on_side(TRAIN, f"{FARM.lower()} And why?")),
        Item("d", on_side(TRAIN, FARM[:43])),
        Item("c", next(text for n in range(100) if is_train(text := short.upper() + "!" * n))),
        *held,
    ]
    shards = shard(tmp_path / "items.jsonl", items)
    stage = HeldOut(HeldOutSettings(share=0.5), shards=shards, folder=tmp_path / "index")
    assert isinstance(stage, ItemStage) and stage.name == "held_out"
    outcomes = pickle.loads(pickle.dumps(stage))(items)
    # d: a number and "a farmer has twelve brown hens and five whi", 10 words, 4 7-grams, of which 2 are shared.
    assert [outcome.reason for outcome in outcomes] == [
        "",
        "in held-out: 13-gram",
        "in held-out: 7-gram ratio",
        "in held-out: 7-gram ratio",
        "",
        "",
    ]
    note = outcomes[1].item.meta["held_out"]
    assert (note["benchmark"], note["item"], note["part"], note["start"]) == ("held_out", "h1", "prompt", 1)
    assert outcomes[2].item.meta["held_out"]["ratio"] == 0.5
    assert [side_of(outcome.item) for outcome in outcomes] == [TRAIN] * 4 + [HELD_OUT] * 2
    assert outcomes[4].item.meta["held_out"] == {"side": HELD_OUT}


def test_a_copy_within_the_training_side_is_no_leak(tmp_path):
    texts = [on_side(TRAIN, FARM)] * 2 + [on_side(HELD_OUT, f"A train {STOP}")]
    items = [Item(str(number), text) for number, text in enumerate(texts)]
    outcomes = HeldOut(HeldOutSettings(share=0.5), shards=shard(tmp_path / "a.jsonl", items))(items)
    assert all(outcome.kept for outcome in outcomes)


def test_what_most_held_out_texts_share_is_a_template_and_no_leak(tmp_path):
    words = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen"]
    prompts = [f"The {word} {STOP}" for word in words] + [f"A train {STOP}"]
    items = [Item(str(number), prompt) for number, prompt in enumerate(prompts)]
    shards = shard(tmp_path / "a.jsonl", items)
    sides = [side_of_prompt(prompt, share=0.5, seed=0) for prompt in prompts]
    assert min(sides.count(TRAIN), sides.count(HELD_OUT)) >= 2
    strict = HeldOut(HeldOutSettings(share=0.5, template_texts=0), shards=shards)(items)
    assert [outcome.kept for outcome in strict] == [side == HELD_OUT for side in sides]
    lenient = HeldOut(HeldOutSettings(share=0.5, template_texts=2, template_share=0.5), shards=shards)(items)
    assert all(outcome.kept for outcome in lenient)


def test_which_prompts_are_held_out_is_a_matter_of_their_words_and_the_share():
    prompts = [f"question {number}" for number in range(4000)]

    def held(share: float, *, seed: int = 0, write=str) -> set[str]:
        return {prompt for prompt in prompts if side_of_prompt(write(prompt), share=share, seed=seed) == HELD_OUT}

    small, large = held(0.1), held(0.3)
    assert small < large
    assert 320 < len(small) < 480 and 1080 < len(large) < 1320  # four standard deviations of 19 and 29
    assert held(0.1, write=lambda prompt: f" {prompt.upper()}\n") == small
    assert held(0.1, seed=1) != small


def test_where_nothing_is_held_out_nothing_is_dropped(tmp_path):
    items = [Item("a", FARM), Item("b", FARM)]
    stage = HeldOut(HeldOutSettings(share=1e-9), shards=shard(tmp_path / "a.jsonl", items), folder=tmp_path / "index")
    assert [outcome.item.meta["held_out"]["verdict"] for outcome in stage(items)] == ["clean", "clean"]
    assert len(pickle.loads(pickle.dumps(stage)).index()) == 0


def test_another_input_has_another_index(tmp_path):
    held, copy = Item("h", on_side(HELD_OUT, FARM)), Item("t", on_side(TRAIN, FARM))
    for number, items in enumerate(([held, copy], [copy])):
        shards = shard(tmp_path / f"{number}.jsonl", items)
        stage = HeldOut(HeldOutSettings(share=0.5), shards=shards, folder=tmp_path / "index")
        assert stage([copy])[0].kept == (number == 1)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_shares_that_make_no_sense_are_refused(share):
    with pytest.raises(UserError, match=rf"held_out.share={share} must be above 0"):
        HeldOutSettings(share=share)
