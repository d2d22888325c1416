import json
import pickle
import re
from collections import Counter

import numpy as np
import pytest

from phi4r.curation.item import Item
from phi4r.curation.overlap import index_store
from phi4r.curation.overlap.common_ngrams import common_ngrams, write_allow_list
from phi4r.curation.overlap.decontamination import Decontamination, DecontaminationSettings
from phi4r.curation.stage import ItemStage
from phi4r.data.tables import read_rows
from phi4r.errors import UserError
from phi4r.settings import build
from tests.curation.overlap.plain_overlaps import grams, plain_words

QUESTION = "A farmer has twelve brown hens and five white ducks; how many eggs do all hens lay in June?"  # 19 words
ANSWER = "every hen lays four eggs in a week so all of the twelve hens lay about two hundred eggs"  # 18 words


@pytest.fixture
def farm(tmp_path):
    path = tmp_path / "farm.jsonl"
    row = {"id": "q0", "prompt": QUESTION, "answer": "205", "meta": {"solution": ANSWER}}
    path.write_text(json.dumps(row) + "\n")
    return path


def stage_of(path, **options) -> Decontamination:
    return Decontamination(DecontaminationSettings((f"jsonl:{path}",), **options))


def test_items_are_dropped_kept_and_noted(farm):
    stage = stage_of(farm)
    assert isinstance(stage, ItemStage) and (stage.name, stage.batch_size) == ("decontamination", 1024)
    half = " ".join(QUESTION.split()[:9])  # 9 words, 3 7-grams
    items = [
        Item("copy", f"Solve this. {QUESTION.upper()} Think!"),
        Item("half", f"{half} in a long row"),  # 13 words, 7 7-grams, 3 shared: 3 / 7
        Item("most", f"{half} too"),  # 10 words, 4 7-grams, 3 shared
        Item("other", "What is one and one?"),
        Item("solved", "What is it?", solution=f"Let us see. {QUESTION}"),
    ]
    outcomes = stage(items)
    assert [outcome.reason for outcome in outcomes] == [
        "contaminated: 13-gram",
        "",
        "contaminated: 7-gram ratio",
        "",
        "contaminated: 13-gram",
    ]
    assert not any(outcome.failed for outcome in outcomes)
    notes = [outcome.item.meta["decontamination"] for outcome in outcomes]
    span = " ".join(plain_words(QUESTION))
    where = {"benchmark": "farm", "item": "q0", "part": "prompt"}
    start = " ".join(plain_words(half))
    counted = {"rule": "7-gram ratio", "span": start}
    assert notes == [
        {
            "verdict": "contaminated",
            "rule": "13-gram",
            "ratio": 1.0,
            "field": "prompt",
            "start": 2,
            "span": span,
            **where,
        },
        {"verdict": "partial", "ratio": 0.4286, "field": "prompt", "start": 0, **counted, **where},
        {"verdict": "contaminated", "ratio": 0.75, "field": "prompt", "start": 0, **counted, **where},
        {"verdict": "clean", "ratio": 0.0},
        {
            "verdict": "contaminated",
            "rule": "13-gram",
            "ratio": 1.0,
            "field": "solution",
            "start": 3,
            "span": span,
            **where,
        },
    ]
    json.dumps(notes)
    assert [outcome.item.id for outcome in outcomes] == [item.id for item in items]
    assert [stage([item])[0] for item in items] == outcomes  # alone as in a batch


def test_partial_items_are_dropped_if_asked(farm):
    item = Item("half", f"{' '.join(QUESTION.split()[:9])} in a long row")
    assert stage_of(farm, partial="drop")([item])[0].reason == "partly contaminated: 7-gram ratio"


def test_only_the_named_fields_are_looked_at(farm):
    item = Item("a", "Why?", thought=QUESTION)
    assert stage_of(farm, fields=("prompt", "solution"))([item])[0].kept
    assert not stage_of(farm, fields=("thought",))([item])[0].kept


def test_solutions_are_protected_if_asked(farm):
    items = [Item("a", "Why?", solution=f"It is {ANSWER}"), Item("b", "205")]
    assert [outcome.kept for outcome in stage_of(farm)(items)] == [True, True]
    assert [outcome.kept for outcome in stage_of(farm, with_solutions=True)(items)] == [False, True]


def test_the_allow_list_is_made_from_a_corpus_and_used(farm, tmp_path):
    item = Item("a", f"{' '.join(QUESTION.split()[6:])} or in July or in August or in any other month of the year")
    # The last 13 of 19 words of the question, then 13 others: 20 7-grams, 7 of them shared of the question's 13.
    stage = stage_of(farm)
    assert stage([item])[0].reason == "contaminated: 13-gram"
    common = common_ngrams(stage.index(), [("", item.prompt)] * 3, least=3)
    assert common == ["and five white ducks how many eggs do all hens lay in june"]
    write_allow_list(tmp_path / "allow.txt", common)
    (outcome,) = stage_of(farm, allow_list=str(tmp_path / "allow.txt"))([item])
    assert outcome.reason == "contaminated: 7-gram ratio"
    assert outcome.item.meta["decontamination"]["ratio"] == 0.5385  # 7 / 13


def test_a_stage_is_light_and_its_index_is_shared_by_a_folder(farm, tmp_path, monkeypatch):
    items = [Item("a", QUESTION), Item("b", "What is one and one?")]
    stage = Decontamination(DecontaminationSettings((f"jsonl:{farm}",)), folder=str(tmp_path / "index"))
    built = stage(items)
    monkeypatch.setattr(index_store, "_at_hand", {})
    packed = pickle.dumps(stage)
    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert again(items) == built == stage_of(farm)(items)
    assert isinstance(again.index().rows, np.memmap)
    farm.write_text(farm.read_text().replace("twelve", "eleven thousand"))  # another file, so another index
    assert pickle.loads(packed)(items)[0].item.meta["decontamination"]["span"].startswith("brown hens")


def test_settings_are_read_from_a_config():
    settings = build(
        DecontaminationSettings, {"benchmarks": ["maze"], "partial": "drop"}, where="config.decontamination"
    )
    assert settings == DecontaminationSettings(("maze",), partial="drop")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"benchmarks": ()}, "needs benchmarks"),
        ({"fields": ("prompt", "meta")}, "fields must be some of .*, not meta"),
        ({"fields": ()}, "not none"),
        ({"short_ngram": 14}, "short_ngram=14 must be"),
        ({"partial_ratio": 0.6}, "ratios must be"),
        ({"contaminated_ratio": 0.0, "partial_ratio": 0.0}, "ratios must be"),
        ({"partial": "maybe"}, "partial must be 'keep' or 'drop'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"template_texts": 1}, "a template needs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        DecontaminationSettings(**{"benchmarks": ("maze",), **values})


def test_puzzles_are_not_condemned_for_their_rules(tmp_path):
    stage = Decontamination(DecontaminationSettings(("maze?num=60",)))
    index = stage.index()
    instructions = "The maze below is drawn with characters: # is a wall, a blank is open floor, S is the start"
    assert stage([Item("a", instructions)])[0].kept
    strict = Decontamination(DecontaminationSettings(("maze?num=60",), template_texts=0))
    assert not strict([Item("a", instructions)])[0].kept
    assert len(index.long) < len(strict.index().long)


def test_problems_of_math_500_planted_into_prompts_of_gsm8k_are_found(shared_data):
    rows = [row for _, row in read_rows(str(shared_data / "gsm8k" / "train.jsonl"))]
    problems = [row["problem"] for _, row in read_rows(str(shared_data / "math500"))]
    assert (len(rows), len(problems)) == (7473, 500)
    items = []
    for number, row in enumerate(rows):
        planted = number % 15 == 0 and number // 15 < 500
        text = f"{row['question']}\n{problems[number // 15].upper()}" if planted else row["question"]
        items.append(Item(f"{'planted' if planted else 'own'}-{number // 15}-{number}", text))
    stage = Decontamination(DecontaminationSettings((f"math_500:{shared_data / 'math500'}",), partial_ratio=0.5))
    outcomes = stage(items)
    dropped = {outcome.item.id for outcome in outcomes if not outcome.kept}
    lengths = {
        item.id: len(plain_words(problems[int(item.id.split("-")[1])])) for item in items if "planted" in item.id
    }
    # Each problem of at least seven words is found, as those of fewer are no text of their own any more.
    assert dropped == {name for name, length in lengths.items() if length >= 7}
    reasons = Counter(outcome.reason for outcome in outcomes)
    assert reasons["contaminated: 13-gram"] >= sum(length >= 20 for length in lengths.values()) > 300


def test_what_the_training_set_of_gsm8k_shares_with_its_test_set(shared_data):
    folder = shared_data / "gsm8k"
    train = [row["question"] for _, row in read_rows(str(folder / "train.jsonl"))]
    test = [row["question"] for _, row in read_rows(str(folder / "test.jsonl"))]
    settings = DecontaminationSettings((f"gsm8k:{folder / 'test.jsonl'}",))
    outcomes = Decontamination(settings)([Item(str(number), text) for number, text in enumerate(train)])
    train_words, test_words = ([re.findall(r"[^\W_]+", text.lower()) for text in texts] for texts in (train, test))
    protected = set().union(*(grams(words, 13) for words in test_words if len(words) >= 13))
    sharing = {
        str(number)
        for number, words in enumerate(train_words)
        if len(words) >= 13 and not protected.isdisjoint(grams(words, 13))
    }
    found = {outcome.item.id: outcome.item.meta["decontamination"] for outcome in outcomes if not outcome.kept}
    assert found.keys() == sharing and len(sharing) == 4
    spans = " | ".join(note["span"] for note in found.values())
    assert "bought stamps at the post office some of the stamps had a snowflake design" in spans
    assert "the first movie is 1 hour and 30 minutes long while the second movie is" in spans
    assert spans.count("miles in 3 hours at the same rate how many additional hours would it take") == 2


def test_a_file_of_problems_protects_what_its_task_protects(farm):
    items = [Item("a", QUESTION)]
    as_task, as_file = stage_of(farm), Decontamination(DecontaminationSettings((f"file:{farm}?fields=prompt",)))
    assert as_task(items) == as_file(items)
