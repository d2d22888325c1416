import json

import pytest

from phi4r.curation.intake.screens import Screens, ScreenSettings, letter_share, repetition
from phi4r.curation.item import Item
from phi4r.errors import UserError
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from tests.curation.toys import item

GOOD = "A train leaves the station at noon and travels for three hours. How far does it go?"
NEEDS_WORK = "A good prompt about a cat that sits on a mat, with a place for a name: "

CASES = [
    (GOOD, ""),
    ("Solve $x^2 = 4$ for the positive root, please.", ""),
    ("How many?", "too short"),
    ("Incomprehensible internationalisation", "too short"),
    ("I a a a a", "too short"),  # five words, but too few characters
    ("Express -2013 in base -4.", ""),  # short texts look like many languages
    ("word " * 41, "too long"),
    ("Ein Zug verlässt den Bahnhof um zwölf Uhr und fährt drei Stunden lang. Wie weit kommt er?", "language"),
    ("Поезд отправляется в полдень и едет три часа. Какое расстояние он проедет?", "language"),
    ("12 + 34 * 56 - 78 = 90 / 12 ?", "few letters"),
    (" ".join(["buy our new red shoes today"] * 5), "repetition"),
    (f"{GOOD} https://a.example https://b.example", "links"),
    (f"{GOOD} See https://a.example for more.", ""),
    (NEEDS_WORK + "[insert name here]", "placeholder"),
    (NEEDS_WORK + "Lorem ipsum dolor", "placeholder"),
    (NEEDS_WORK + "TODO", "placeholder"),
    (NEEDS_WORK + "Todd, and a list [1, 2] of figures", ""),
]


@pytest.mark.parametrize(("prompt", "reason"), CASES, ids=str)
def test_a_prompt_is_dropped_for_the_first_rule_that_it_breaks(prompt, reason):
    [outcome] = Screens(ScreenSettings(max_words=40))([item("a", prompt)])
    assert outcome.reason == reason and not outcome.failed


def test_words_and_language_of_every_item_are_noted():
    kept, short = Screens(ScreenSettings())([item("a", GOOD), item("b", "7 + 5 = ?")])
    assert kept.item.meta == {"screens": {"words": 17, "language": "en"}}
    assert short.item.meta == {"screens": {"words": 5, "language": None}}


def test_what_has_too_few_letters_to_tell_its_language_is_let_through():
    settings = ScreenSettings(min_letters=0.0, min_characters=0)
    [outcome] = Screens(settings)([item("a", r"$\text{Berechne die Summe}$ 1 + 2 + 3 = ?")])
    assert outcome.kept


def test_other_languages_and_no_limits_can_be_set():
    german = CASES[5][0]
    assert Screens(ScreenSettings(languages=("de", "en")))([item("a", german)])[0].kept
    assert Screens(ScreenSettings(languages=()))([item("a", german)])[0].kept
    assert Screens(ScreenSettings(max_words=0, max_repetition=1.0))([item("a", "word and more " * 2000)])[0].kept
    assert Screens(ScreenSettings(max_characters=50))([item("a", GOOD)])[0].reason == "too long"


def test_tokens_are_counted_by_the_tokenizer_of_a_folder(tmp_path):
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), tmp_path)
    prompt = "chain 7 +3 *9 -4 ="  # a token for each of its six words
    settings = {"min_letters": 0.0, "min_characters": 0, "tokenizer": str(tmp_path)}
    assert Screens(ScreenSettings(**settings, max_tokens=6))([item("a", prompt)])[0].kept
    assert Screens(ScreenSettings(**settings, max_tokens=5))([item("a", prompt)])[0].reason == "too long"


def test_measures_are_those_of_their_names():
    assert letter_share("ab 12") == 0.5
    assert letter_share(" ") == 0.0
    # 21 words, 19 runs of three; the 7 words three times over have 7 different runs
    assert repetition("a b c d e f g " * 3) == pytest.approx(1 - 7 / 19)
    assert repetition("a a a a") == 0.0


def test_almost_all_prompts_of_real_sets_pass(shared_data):
    """They are English and of a quality that others have looked after."""
    files = {"gsm8k/train.jsonl": "question", "math500/math500_test.jsonl": "problem"}
    for name, field in files.items():
        lines = (shared_data / name).read_text(encoding="utf-8").splitlines()[:300]
        items = [Item(str(n), json.loads(line)[field]) for n, line in enumerate(lines)]
        outcomes = Screens(ScreenSettings())(items)
        assert sum(outcome.kept for outcome in outcomes) > 0.9 * len(items)
        assert sum(outcome.reason == "language" for outcome in outcomes) < 0.02 * len(items)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"languages": ("xx",)}, "screens.languages has 'xx'"),
        ({"placeholders": ("(",)}, r"'\(' is no regular expression"),
        ({"max_tokens": 10}, "needs screens.tokenizer"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(settings, message):
    with pytest.raises(UserError, match=message):
        ScreenSettings(**settings)
